//! Where a node is shown: on a terminal, in lines, or nowhere any more.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant, SystemTime};

use super::model::Model;
use super::plain::Plain;
use super::screen::{Input, Screen};

/// Where it is shown.
pub(super) enum Display {
    Screen(Box<Screen>),
    Plain(Plain),
    /// Nobody looks any more: the terminal is closed, or the pipe.
    Gone,
}

impl Display {
    /// `lines`: even on a terminal.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn open(lines: bool, json: bool, every: Duration) -> io::Result<Self> {
        if lines || json || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Ok(Self::Plain(Plain::new(json, every, Instant::now())));
        }
        Ok(Self::Screen(Box::new(Screen::open()?)))
    }

    /// Shows the model as it is now.
    ///
    /// # Errors
    /// Why that could not be done, once: nothing is shown from then on.
    pub(super) fn show(&mut self, model: &Model) -> io::Result<()> {
        let shown = match self {
            Self::Screen(screen) => screen.show(model),
            Self::Plain(plain) => plain.show(model, Instant::now(), SystemTime::now()),
            Self::Gone => Ok(()),
        };
        if shown.is_err() {
            *self = Self::Gone;
        }
        shown
    }

    /// What the user does. Cancel-safe.
    pub(super) async fn input(&mut self) -> Input {
        match self {
            Self::Screen(screen) => screen.input().await,
            Self::Plain(_) | Self::Gone => std::future::pending().await,
        }
    }

    /// Shows what is left, and gives the terminal back. Whether somebody may still look.
    pub(super) fn close(mut self, model: &Model) -> bool {
        match &mut self {
            Self::Screen(_) => true,
            Self::Plain(_) => self.show(model).is_ok(),
            Self::Gone => false,
        }
    }
}
