//! What one decoded value may hold; [`guard`](super::guard) takes it off as it goes.

use std::cell::Cell;

use serde::de::Error;

use crate::error::FrameError;

/// Levels that a value may nest: of structs, tuples, enums, options, sequences and maps, each counted.
/// As in `serde_json`. A type that refers to itself takes one to three a round.
pub(super) const MAX_DEPTH: usize = 128;

/// Elements that need no byte of their own (`()`, a struct without fields), in all.
const FREE_ELEMENTS: usize = 1024;

/// What a value may still hold.
pub(super) struct Budget {
    elements: Cell<usize>,
    memory: Cell<usize>,
    refused: Cell<Option<Refusal>>,
}

/// What was exceeded.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    Depth,
    Elements,
    Memory,
}

impl Budget {
    /// For a value of `bytes` bytes, whose elements may take `memory` bytes when they are decoded.
    ///
    /// Elements of sequences and entries of maps have at least a byte each, which they share with no
    /// other (the sequence's length stands between an element and the elements in it), so honest
    /// values have no more of them than bytes.
    pub(super) fn new(bytes: usize, memory: usize) -> Self {
        Self {
            elements: Cell::new(bytes.saturating_add(FREE_ELEMENTS)),
            memory: Cell::new(memory),
            refused: Cell::new(None),
        }
    }

    /// Why the value was refused, if it was refused here.
    pub(super) fn refusal(&self) -> Option<FrameError> {
        self.refused.get().map(|refusal| match refusal {
            Refusal::Depth => FrameError::TooDeep { max: MAX_DEPTH },
            Refusal::Elements => FrameError::TooManyElements,
            Refusal::Memory => FrameError::TooMuchMemory,
        })
    }

    /// Takes the elements of a sequence or a map; where their number is unknown they are refused.
    #[inline]
    pub(super) fn take_elements<E: Error>(&self, count: Option<usize>) -> Result<(), E> {
        self.take(&self.elements, count, Refusal::Elements)
    }

    /// Takes the memory of `count` things of `size` bytes.
    #[inline]
    pub(super) fn take_memory<E: Error>(&self, count: usize, size: usize) -> Result<(), E> {
        self.take(&self.memory, count.checked_mul(size), Refusal::Memory)
    }

    #[inline]
    fn take<E: Error>(
        &self,
        from: &Cell<usize>,
        amount: Option<usize>,
        refusal: Refusal,
    ) -> Result<(), E> {
        match amount.and_then(|amount| from.get().checked_sub(amount)) {
            Some(left) => {
                from.set(left);
                Ok(())
            }
            None => Err(self.refuse(refusal)),
        }
    }

    #[cold]
    pub(super) fn refuse<E: Error>(&self, refusal: Refusal) -> E {
        self.refused.set(Some(refusal));
        E::custom("refused")
    }
}
