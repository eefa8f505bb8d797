//! What each event is: its class, its bytes, and what its handlers do with it. All of it is told by its number, so that
//! nothing has to be remembered to check it.

use abe_events::{Id, Message, Payload, Topic};

use crate::support::Result;

/// Which handlers take an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Plain,
    Keyed,
    Fragile,
    Once,
    Late,
    Deadly,
}

/// The subscriptions, by number.
pub(crate) const SUBSCRIPTIONS: [&str; 7] = ["plain", "batch", "ordered", "fragile", "once", "late", "deadly"];
pub(crate) const PLAIN: usize = 0;
pub(crate) const BATCH: usize = 1;
pub(crate) const ORDERED: usize = 2;
pub(crate) const FRAGILE: usize = 3;
pub(crate) const ONCE: usize = 4;
pub(crate) const LATE: usize = 5;
pub(crate) const DEADLY: usize = 6;

/// How long an event of the class `Late` is held back.
pub(crate) const LATE_MS: u64 = 300;

/// How long a failed attempt is held back, by subscription; the handlers' attributes say the same.
pub(crate) const RETRY_MS: [u64; 7] = [20, 20, 20, 30, 20, 20, 20];

/// How many attempts there are, by subscription; the handlers' attributes say the same.
pub(crate) const ATTEMPTS: [u32; 7] = [5, 5, 4, 3, 5, 5, 5];

/// How often a message is started whose attempts end without a word, if its policy allows fewer.
pub(crate) const SILENT_ENDS_MAX: u32 = 10;

/// Publishers from this number on publish events of the class `Deadly` alone.
pub(crate) const DEADLY_FROM: u32 = 1_000_000;

/// What a scripted run publishes, two hundred events of every class: ranges of numbers.
pub(crate) const SCRIPT: [std::ops::Range<u32>; 4] = [480..540, 780..860, 880..930, 985..995];

/// Keys of a publisher: some, so that lines form, and enough that a lease that ends holds up few.
const KEYS: u32 = 97;

/// What a handler does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    FailsOnce,
    FailsAlways,
    Refused,
    /// Takes the process along.
    Kills,
}

impl Fate {
    /// Whether it is to end in dead letters.
    pub(crate) fn is_dead(self) -> bool {
        matches!(self, Self::FailsAlways | Self::Refused | Self::Kills)
    }
}

/// An event: who published it, and which of theirs it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    pub(crate) from: u32,
    pub(crate) number: u32,
}

/// A number that looks random and is not (SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Mark {
    fn high(self) -> u64 {
        u64::from(self.from) << 32 | u64::from(self.number)
    }

    /// As it stands in the ledger.
    pub(crate) fn as_number(self) -> i64 {
        self.high().cast_signed()
    }

    /// The mark of a ledger's entry.
    pub(crate) fn of_number(number: i64) -> Self {
        let high = number.cast_unsigned();
        Self { from: (high >> 32) as u32, number: (high & 0xffff_ffff) as u32 }
    }

    pub(crate) fn class(self) -> Class {
        match self.number % 1_000 {
            _ if self.from >= DEADLY_FROM => Class::Deadly,
            0..500 => Class::Plain,
            500..800 => Class::Keyed,
            800..900 => Class::Fragile,
            900..990 => Class::Once,
            _ => Class::Late,
        }
    }

    pub(crate) fn subscriptions(self) -> &'static [usize] {
        match self.class() {
            Class::Plain => &[PLAIN, BATCH],
            Class::Keyed => &[ORDERED],
            Class::Fragile => &[FRAGILE],
            Class::Once => &[ONCE],
            Class::Late => &[LATE],
            Class::Deadly => &[DEADLY],
        }
    }

    pub(crate) fn fate(self) -> Fate {
        let dice = mix(self.high()) % 100;
        match (self.class(), dice) {
            (Class::Deadly, _) if self.number % 1_000 == 7 => Fate::Kills,
            (Class::Keyed, 0..12) | (Class::Fragile, 0..20) => Fate::FailsOnce,
            (Class::Keyed, 12) | (Class::Fragile, 20..25) => Fate::FailsAlways,
            (Class::Keyed, 13) | (Class::Fragile, 25..30) => Fate::Refused,
            _ => Fate::Good,
        }
    }

    pub(crate) fn key(self) -> Option<u32> {
        (self.class() == Class::Keyed).then_some(self.number % KEYS)
    }

    pub(crate) fn topic(self) -> &'static str {
        match self.class() {
            Class::Plain => "chaos.plain",
            Class::Keyed => "chaos.keyed",
            Class::Fragile => "chaos.fragile",
            Class::Once => "chaos.once",
            Class::Late => "chaos.late",
            Class::Deadly => "chaos.deadly",
        }
    }

    /// The id, from which the mark can be read again.
    pub(crate) fn id(self) -> Id {
        Id::from_uuid(uuid::Uuid::from_u64_pair(self.high(), mix(self.high()) | 1))
    }

    /// Whose id this is; `None` for one that was never given.
    pub(crate) fn of_id(id: &Id) -> Option<Self> {
        let (high, low) = uuid::Uuid::parse_str(&id.to_string()).ok()?.as_u64_pair();
        let mark = Self { from: u32::try_from(high >> 32).ok()?, number: u32::try_from(high & 0xffff_ffff).ok()? };
        (low == mix(high) | 1).then_some(mark)
    }

    /// The payload, byte by byte; of different lengths, with what JSON has to escape.
    pub(crate) fn body(self) -> String {
        let length = usize::try_from(mix(!self.high()) % 120).unwrap_or(0);
        let filler = "\\\"\\u0001 ü🦀 ".repeat(length / 8);
        format!("{{\"from\":{},\"number\":{},\"filler\":\"{filler}\"}}", self.from, self.number)
    }

    pub(crate) fn message(self) -> Result<Message> {
        let key = self.key().map(|key| format!("{}-{key}", self.from).into());
        let message = Message::new(Topic::new(self.topic())?, 1, Payload::from_bytes(self.body().into_bytes()));
        Ok(message.with_id(self.id()).with_key(key))
    }
}
