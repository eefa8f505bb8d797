//! The pages of the guide as doctests: what is written there compiles, runs, and holds.

macro_rules! pages {
    ($($name:ident = $path:literal;)*) => {
        $(
            #[doc = include_str!($path)]
            mod $name {}
        )*
    };
}

pages! {
    readme = "../../README.md";
    guarantees = "../../docs/guarantees.md";
    first_event = "../../docs/guide/first-event.md";
    delivery = "../../docs/guide/delivery.md";
    attributes = "../../docs/guide/attributes.md";
    configuration = "../../docs/guide/configuration.md";
    errors = "../../docs/guide/errors.md";
    own_backend = "../../docs/guide/own-backend.md";
    testing = "../../docs/guide/testing.md";
    shutdown = "../../docs/guide/shutdown.md";
    sqlite = "../../docs/guide/sqlite.md";
    postgres = "../../docs/guide/postgres.md";
    transactions = "../../docs/guide/transactions.md";
    wire = "../../docs/guide/wire.md";
    from_watermill = "../../docs/guide/from-watermill.md";
}
