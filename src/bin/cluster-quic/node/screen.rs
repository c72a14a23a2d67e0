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
    /// Nobody can do anything any more: the terminal is gone.
    Gone,
    /// Another size, or something else that asks for a new picture.
    Redraw,
}

/// The whole terminal, until it is dropped.
pub(crate) struct Screen {
    /// `None` only while it is dropped.
    terminal: Option<DefaultTerminal>,
    /// `None` once it has ended.
    input: Option<UnboundedReceiver<Input>>,
    palette: Palette,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back.
    pub(crate) fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        let (sender, input) = unbounded_channel();
        std::thread::spawn(move || read(&sender));
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self { terminal: Some(terminal), input: Some(input), palette: Palette { colours } })
    }

    /// Draws; only what has changed is sent, and shows at once.
    pub(crate) fn show(&mut self, model: &Model) -> io::Result<()> {
        let palette = self.palette;
        let Some(terminal) = &mut self.terminal else { return Ok(()) };
        execute!(io::stdout(), BeginSynchronizedUpdate)?;
        terminal.draw(|frame| draw(frame, model, palette))?;
        execute!(io::stdout(), EndSynchronizedUpdate)
    }

    /// The next input; [`Input::Gone`] is the last. Cancel-safe.
    pub(crate) async fn input(&mut self) -> Input {
        let Some(reader) = &mut self.input else { return std::future::pending().await };
        let input = reader.recv().await;
        if input.is_none() {
            self.input = None;
        }
        input.unwrap_or(Input::Gone)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Of a terminal that is gone nothing can be given back. That ratatui would complain of it to
        // standard error, which is gone too, would end in a panic.
        let _ = ratatui::try_restore();
        if let Some(mut terminal) = self.terminal.take()
            && terminal.show_cursor().is_err()
        {
            std::mem::forget(terminal);
        }
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
