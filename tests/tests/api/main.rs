//! Tests of the programming interface: calls, options, contexts and journaled messages.

mod backpressure;
mod bounds;
mod calls;
mod concurrency;
mod configuration;
mod context;
mod continuations_and_replay;
mod foreign;
mod inline;
mod keys;
mod layers;
mod messages;
mod readme;
mod reliability;
mod replay;
mod surroundings;
