//! The parts of the kill campaign on their own: every rule of the checker on a history that breaks it, and the proxy.

#![allow(dead_code, reason = "the parts are the campaign's; here each is looked at alone")]

#[path = "checker.rs"]
mod checker;
#[path = "checker_tests.rs"]
mod checker_tests;
#[path = "handlers.rs"]
mod handlers;
#[path = "herd.rs"]
mod herd;
#[path = "history.rs"]
mod history;
#[path = "proxy.rs"]
mod proxy;
#[path = "proxy_tests.rs"]
mod proxy_tests;
#[path = "story.rs"]
mod story;
#[path = "support.rs"]
mod support;
#[path = "worker.rs"]
mod worker;
