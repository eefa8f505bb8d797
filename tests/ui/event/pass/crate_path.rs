mod facade {
    pub use abe_events as events;
}

#[facade::events::event(topic = "a", key = 0, crate = crate::facade::events)]
#[derive(Clone)]
pub struct A(u8);

#[facade::events::event(crate = crate::facade::events)]
pub enum Any {
    A(A),
}

#[facade::events::data(crate = crate::facade::events)]
pub struct Card {
    #[facade::events::event(sensitive)]
    number: u8,
}

fn main() {}
