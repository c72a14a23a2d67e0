//! The terminal: draws on it, reads its keys, and leaves it as it was.

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::model::Model;
use super::view::{Palette, draw};

/// How often the thread that reads keys looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// What the user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Quit,
    /// Another size, or something else that asks for a new picture.
    Redraw,
}

/// The whole terminal, until it is dropped.
pub(crate) struct Screen {
    terminal: DefaultTerminal,
    input: UnboundedReceiver<Input>,
    palette: Palette,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back.
    pub(crate) fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        let (sender, input) = unbounded_channel();
        std::thread::spawn(move || read(&sender));
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self { terminal, input, palette: Palette { colours } })
    }

    /// Draws; only what has changed is sent, and shows at once.
    pub(crate) fn show(&mut self, model: &Model) -> io::Result<()> {
        let palette = self.palette;
        execute!(io::stdout(), BeginSynchronizedUpdate)?;
        self.terminal.draw(|frame| draw(frame, model, palette))?;
        execute!(io::stdout(), EndSynchronizedUpdate)
    }

    /// The next input. Cancel-safe.
    pub(crate) async fn input(&mut self) -> Input {
        // Without a reader (the terminal is gone) nobody can look any more either.
        self.input.recv().await.unwrap_or(Input::Quit)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn read(sender: &UnboundedSender<Input>) {
    while !sender.is_closed() {
        let input = match event::poll(LOOK) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(_) => return,
        };
        let input = match input {
            Ok(input) => meaning(&input),
            Err(_) => return,
        };
        if let Some(input) = input
            && sender.send(input).is_err()
        {
            return;
        }
    }
}

fn meaning(event: &Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Input::Quit),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                Some(Input::Quit)
            }
            _ => None,
        },
        Event::Resize(..) => Some(Input::Redraw),
        _ => None,
    }
}
