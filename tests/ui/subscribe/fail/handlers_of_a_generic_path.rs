fn main() {
    let _ = abe_events::handlers![Vec::<u8>];
}
