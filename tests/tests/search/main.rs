//! Layers that search for failures. They run for minutes, and some use child processes.

mod damage;
mod evolution;
mod faults;
mod histories;
mod kill;
mod overload;
mod power;
mod sweep;
