//! Versions: a chain v1 → v2 → v3 in the types reads bytes of any age; a version of the future is kept, not guessed.
//!
//! ```sh
//! cargo run --example versions
//! ```
//!
//! It prints:
//!
//! ```text
//! Ada Lovelace, language en (written as v1)
//! Grace Hopper, language en (written as v2)
//! Kurt Gödel, language de (written as v3)
//! dead letter: version v4 is newer than v3, the newest this program knows
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

mod support;

use abe_events::broker::DeadLetterFilter;
use abe_events::{Context, Error, Message, Payload, Result, Topic, event, runtime, subscribe};

use self::support::settled;

/// One text for the name.
#[event(topic = "user.registered", version = "v1")]
struct UserRegisteredV1 {
    name: String,
}

/// Two.
#[event(topic = "user.registered", version = "v2", upcast_from = UserRegisteredV1, upcast_with = split_name)]
struct UserRegisteredV2 {
    first: String,
    last: String,
}

/// And a language.
#[event(topic = "user.registered", version = "v3", upcast_from = UserRegisteredV2)]
struct UserRegistered {
    first: String,
    last: String,
    language: String,
}

/// An upcast that can fail has a function; what it refuses goes to dead letters with its reason.
fn split_name(old: UserRegisteredV1) -> Result<UserRegisteredV2> {
    let (first, last) = old.name.split_once(' ').ok_or_else(|| Error::msg("a name of one word"))?;
    Ok(UserRegisteredV2 { first: first.into(), last: last.into() })
}

/// One that cannot fail is an ordinary `From`.
impl From<UserRegisteredV2> for UserRegistered {
    fn from(old: UserRegisteredV2) -> Self {
        Self { first: old.first, last: old.last, language: "en".into() }
    }
}

/// Handlers know the newest version only.
#[subscribe(name = "welcome")]
async fn welcome(user: &UserRegistered, ctx: &Context) {
    println!("{} {}, language {} (written as v{})", user.first, user.last, user.language, ctx.version());
}

#[tokio::main]
async fn main() -> Result<()> {
    let runtime = runtime::start().await?;
    let written = [
        (1, r#"{"name":"Ada Lovelace"}"#),
        (2, r#"{"first":"Grace","last":"Hopper"}"#),
        (3, r#"{"first":"Kurt","last":"Gödel","language":"de"}"#),
        (4, r#"{"full_name":["Alan","Turing"]}"#),
    ];
    for (version, bytes) in written {
        let message = Message::new(Topic::new("user.registered")?, version, Payload::from_bytes(bytes));
        runtime.publish_message(message).await?;
    }
    settled(&runtime).await;
    for letter in runtime.dead_letters().list(&DeadLetterFilter::default()).await? {
        println!("dead letter: {}", letter.reason());
    }
    runtime.stop().await;
    Ok(())
}
