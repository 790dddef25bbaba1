//! Simulated power cuts, full disks and failing disks.

mod block;
mod cuts;
mod disk;
mod ledger;
mod random;
mod shim;

pub use block::{
    AnyBlock, Block, BlockClient, BlockMessage, JournaledBlock, JournaledBlockClient,
    JournaledBlockMessage,
};
pub use cuts::{Cuts, Load};
pub use disk::{Disk, Event, read_log};
pub use ledger::{Ledger, Outcome};
pub use random::Random;
pub use shim::{Shim, seed_of, times};
