//! Dead letters of the memory broker: a bounded store, one per subscription and message id, oldest first.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::super::{DeadLetter, DeadLetterFilter};
use crate::error::{Error, ErrorKind};
use crate::message::Id;
use crate::sync::{Mutex, lock};
use crate::topic::Name;

/// What a dead letter is unique by.
type Key = (Name, Name, Id);

/// The store.
#[derive(Debug)]
pub(super) struct Letters {
    bound: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    next_number: u64,
    letters: BTreeMap<u64, DeadLetter>,
    numbers: HashMap<Key, u64, RandomState>,
}

impl Letters {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, shelf: Mutex::default() }
    }

    /// Stores a letter, and gives back the one it replaces.
    pub(super) fn store(&self, letter: DeadLetter) -> Result<Option<DeadLetter>, Box<(Error, DeadLetter)>> {
        let mut shelf = lock(&self.shelf);
        let key = key_of(&letter);
        if !shelf.numbers.contains_key(&key) && shelf.letters.len() >= self.bound {
            let text = format!("the memory broker keeps at most {} dead letters and they are all taken; replay or purge some", self.bound);
            return Err(Box::new((Error::new(ErrorKind::Full, text), letter)));
        }
        let number = shelf.next_number;
        shelf.next_number += 1;
        let old = shelf.numbers.insert(key, number).and_then(|old| shelf.letters.remove(&old));
        shelf.letters.insert(number, letter);
        Ok(old)
    }

    pub(super) fn count(&self) -> u64 {
        lock(&self.shelf).letters.len() as u64
    }

    /// Those meant with their numbers, oldest first.
    pub(super) fn find(&self, filter: &DeadLetterFilter) -> Vec<(u64, DeadLetter)> {
        let limit = if filter.limit == 0 { usize::MAX } else { filter.limit };
        let shelf = lock(&self.shelf);
        shelf
            .letters
            .iter()
            .filter(|(_, letter)| filter.matches(letter))
            .take(limit)
            .map(|(number, letter)| (*number, letter.clone()))
            .collect()
    }

    /// Removes the letter of a number after `first` was done, unless it is gone; both under the lock, so that the letter
    /// leaves the store only when it is held elsewhere, and only once.
    pub(super) fn move_out(&self, number: u64, first: impl FnOnce(&DeadLetter)) -> Option<DeadLetter> {
        let mut shelf = lock(&self.shelf);
        let letter = shelf.letters.get(&number)?;
        first(letter);
        let key = key_of(letter);
        shelf.numbers.remove(&key);
        shelf.letters.remove(&number)
    }
}

fn key_of(letter: &DeadLetter) -> Key {
    (letter.group.clone(), letter.subscription.clone(), letter.message.id().clone())
}
