use abe_events::event;
use serde::{Deserialize, Serialize};

#[event(topic = "a")]
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Both {
    order_id: u64,
}

#[event(topic = "b")]
#[derive(Serialize, Clone)]
pub struct One {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn main() {}
