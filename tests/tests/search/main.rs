//! Layers that search for failures: they run for minutes, and some in child processes.

mod damage;
mod faults;
mod histories;
mod kill;
mod overload;
mod power;
mod sweep;
