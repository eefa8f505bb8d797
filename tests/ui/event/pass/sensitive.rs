use abe_events::{data, event};

#[data]
#[derive(Clone)]
pub struct Card {
    #[event(sensitive)]
    pub card_number: String,
    pub r#type: u8,
}

#[event(topic = "signup")]
#[derive(Clone)]
pub struct Signup {
    pub card: Card,
    #[event(sensitive)]
    pub password: String,
    #[event(public)]
    pub token: u8,
    pub token_count: u8,
}

#[event(topic = "login")]
pub enum Login {
    Password(#[event(sensitive)] String),
    Guest,
}

fn main() {
    let card = Card { card_number: "4111".into(), r#type: 1 };
    let signup = Signup { card, password: "hunter2".into(), token: 1, token_count: 2 };
    let shown = format!("{signup:?} {:?} {:?}", Login::Password("hunter2".into()), Login::Guest);
    assert!(!shown.contains("4111") && !shown.contains("hunter2"), "{shown}");
    assert!(shown.ends_with("Password([sensitive]) Guest"), "{shown}");
}
