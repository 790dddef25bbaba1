//! The races that `docs/design.md` names, each in many orders.

mod activations;
mod crashes_and_kills;
mod full_mailboxes;
mod message_order;
mod senders;
mod timers_and_shutdowns;
mod transfers;
