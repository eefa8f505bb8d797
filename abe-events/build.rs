//! Nothing to build: `links = "abe-events"` needs a build script to be legal.
//!
//! Two versions of this package in one binary would each own a registry, and half of the handlers
//! would be missing without a word. Cargo refuses a graph in which two packages share a `links` key.
//!
//! It also tells our own tests' builds from all others: see `src/mutant.rs`.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ABE_EVENTS_MUTANTS");
    if std::env::var_os("ABE_EVENTS_MUTANTS").is_some() {
        println!("cargo::rustc-cfg=abe_mutants");
    }
}
