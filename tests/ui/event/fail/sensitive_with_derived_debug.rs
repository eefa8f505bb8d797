use abe_events::event;

#[event(topic = "a")]
#[derive(Clone, Debug)]
struct Signup {
    #[event(sensitive)]
    password: String,
}

fn main() {}
