use abe_events::event;

#[event(topic = "a")]
enum Login {
    Password { user_password: String },
    ApiKey { api_key: String },
}

fn main() {}
