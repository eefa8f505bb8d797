//! What the handlers work with: a bank that can be out of order, and the shop's memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use abe_events::{Error, Result};

/// The customer whose bank is out of order until somebody repairs it.
pub(crate) const UNLUCKY: u64 = 13;

/// Takes money.
#[derive(Default)]
pub(crate) struct Bank {
    repaired: AtomicBool,
}

impl Bank {
    pub(crate) fn repair(&self) {
        self.repaired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn charge(&self, user_id: u64, amount: f64) -> Result<()> {
        if user_id == UNLUCKY && !self.repaired.load(Ordering::Relaxed) {
            return Err(Error::msg("the bank does not answer"));
        }
        println!("charge    customer {user_id}: {amount:.2}");
        Ok(())
    }
}

/// What happened to whom, in order.
#[derive(Default)]
pub(crate) struct History {
    customers: Mutex<BTreeMap<u64, Vec<String>>>,
    invoices: Mutex<Vec<u64>>,
}

impl History {
    pub(crate) fn note(&self, user_id: u64, what: String) {
        self.customers.lock().unwrap_or_else(PoisonError::into_inner).entry(user_id).or_default().push(what);
    }

    pub(crate) fn invoiced(&self, order_id: u64) {
        self.invoices.lock().unwrap_or_else(PoisonError::into_inner).push(order_id);
    }

    pub(crate) fn print(&self) {
        for (user_id, events) in &*self.customers.lock().unwrap_or_else(PoisonError::into_inner) {
            println!("history   customer {user_id}: {}", events.join(", "));
        }
        let mut invoices = self.invoices.lock().unwrap_or_else(PoisonError::into_inner).clone();
        invoices.sort_unstable();
        println!("invoices  for orders {invoices:?}");
    }
}
