use abe_events::handler::{Extractor, Meta, Resolver};
use abe_events::{Error, Result, event, subscribe};

#[event(topic = "tick")]
pub struct Tick;

pub struct Tenant(String);

impl Extractor for Tenant {
    type Prepared = ();

    fn prepare(_: &mut Resolver<'_>) -> Option<()> {
        Some(())
    }

    fn extract(_: &(), meta: Meta<'_>) -> Result<Self> {
        meta.message().headers().get("tenant").map(|tenant| Self(tenant.to_owned())).ok_or_else(|| Error::permanent("no tenant"))
    }
}

#[subscribe]
async fn takes(_tick: &Tick, tenant: Tenant) -> Result<()> {
    drop(tenant.0);
    Ok(())
}

#[subscribe]
async fn lends(_tick: &Tick, tenant: &Tenant, maybe: Option<Tenant>) {
    drop((tenant.0.len(), maybe));
}

fn main() {}
