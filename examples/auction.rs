//! An auction house that is killed twenty times and then audited.
//!
//! 1. The *house* (this program, run again as a child process) lists lots, bids for them, and
//!    follows the bids. It is killed with SIGKILL twenty times, and continues each time.
//! 2. The last house ends in order, at SIGTERM. Closing times pass while no process runs.
//! 3. This process opens the database, and the reminders close and settle the late auctions. Then
//!    it compares what is stored with what the houses had reported.
//!
//! A sale changes two accounts, which are two commits. So no server moves money on behalf of another
//! one: each account has a reminder per lot, asks the auction how it ended, and books its own side.
//! The reminder is deleted in the same commit, so the account books once. Calls go from the house to
//! auctions and accounts, and from accounts to auctions, so no two servers wait for each other.

use std::{
    collections::{BTreeMap, HashSet},
    env,
    io::{BufRead, BufReader, Write, stdout},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use persistent_runtime::{Address, Change, Client, Context, Runtime, persistent_server};
use serde::{Deserialize, Serialize};
use tokio::{signal::unix, task::JoinSet, time::sleep};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Cents = u64;
/// The number of a lot: its place in the catalog.
type Lot = usize;

const KILLS: usize = 20;
const BIDDERS: usize = 8;
const SELLERS: usize = 3;
const CREDIT: Cents = 10_000_000;
/// The longest time from a listing to its closing.
const LONGEST: Duration = Duration::from_secs(3);
/// The time after which a handler tries again what it could not finish.
const RETRY: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Listing {
    seller: String,
    closes: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bid {
    bidder: String,
    amount: Cents,
}

/// The catalog of the one house.
#[derive(Default, Serialize, Deserialize)]
struct House(Vec<Listing>);

// `open` calls other servers: they must not learn of a lot whose commit can still fail.
#[persistent_server(await_commits = true)]
impl House {
    /// Adds a lot. The reminder is stored in the same commit, so the auction opens even if the
    /// process dies next.
    pub fn list(&mut self, listing: Listing, context: &Context<Self>) -> Lot {
        let lot = self.0.len();
        self.0.push(listing);
        context.remind(&lot.to_string(), Duration::ZERO, HouseMessage::Open { lot });
        lot
    }

    /// Creates the auction. If the process dies meanwhile, this runs again and changes nothing.
    #[info]
    async fn open(&self, lot: Lot, context: &Context<Self>) {
        let Listing { seller, closes } = self.0[lot].clone();
        let account = context.at::<Account>(seller.as_str(), 0);
        let auction = context.at::<Auction>(lot, Listing { seller, closes });
        if account.hold(lot, 0, closes).await.is_err() || auction.price().await.is_err() {
            context.remind(&lot.to_string(), RETRY, HouseMessage::Open { lot });
        }
    }

    pub fn catalog(&self) -> Vec<Listing> {
        self.0.clone()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Auction {
    listing: Listing,
    bids: Vec<Bid>,
    /// One after the auction has closed.
    closings: u32,
}

#[persistent_server(key = Lot, idle_timeout = "200ms")]
impl Auction {
    #[init]
    fn open(listing: Listing, context: &Context<Self>) -> Self {
        context.remind("close", listing.closes, AuctionMessage::Close);
        Self { listing, bids: Vec::new(), closings: 0 }
    }

    /// Places a bid, and returns true if it stands. To send a bid again, because the outcome of a
    /// call is unknown, changes nothing.
    pub fn bid(&mut self, bidder: String, amount: Cents, context: &Context<Self>) -> bool {
        let bid = Bid { bidder, amount };
        let is_open = self.closings == 0 && context.now() < self.listing.closes;
        if is_open && amount > self.price() {
            self.bids.push(bid.clone());
        }
        self.bids.contains(&bid)
    }

    #[info]
    fn close(&mut self) {
        self.closings += 1;
    }

    pub fn price(&self) -> Cents {
        self.bids.last().map_or(0, |bid| bid.amount)
    }

    pub fn state(&self) -> Self {
        self.clone()
    }
}

#[derive(Serialize, Deserialize)]
struct Account {
    balance: Cents,
    /// The money held for each lot; `None` once the lot is settled.
    holds: BTreeMap<Lot, Option<Cents>>,
}

#[persistent_server(idle_timeout = "200ms")]
impl Account {
    #[init]
    fn open(balance: Cents) -> Self {
        Self { balance, holds: BTreeMap::new() }
    }

    /// Holds money for a bid, or none for the seller, until the lot is settled. Returns false if the
    /// free money does not suffice. The reminder ends the hold, even if no bid follows.
    pub fn hold(&mut self, lot: Lot, sum: Cents, due: SystemTime, context: &Context<Self>) -> bool {
        let Some(before) = *self.holds.get(&lot).unwrap_or(&Some(0)) else { return false };
        let (balance, held) = self.balance();
        if held - before + sum > balance {
            return false;
        }
        self.holds.insert(lot, Some(sum.max(before)));
        context.remind(&lot.to_string(), due, AccountMessage::Settle { lot });
        true
    }

    /// Books this account's side of a sale.
    #[info]
    async fn settle(&mut self, lot: Lot, context: &Context<Self>) {
        let auction = context.client_of::<Auction>(&Address::existing(lot)).state().await;
        let Some(auction) = auction.ok().filter(|auction| auction.closings > 0) else {
            return context.remind(&lot.to_string(), RETRY, AccountMessage::Settle { lot });
        };
        self.holds.insert(lot, None);
        if let Some(Bid { bidder, amount }) = auction.bids.last() {
            if context.key() == bidder {
                self.balance -= amount;
            }
            if context.key() == auction.listing.seller {
                self.balance += amount;
            }
        }
    }

    /// Returns the balance, and how much of it is held.
    pub fn balance(&self) -> (Cents, Cents) {
        (self.balance, self.holds.values().flatten().sum())
    }
}

/// Opens the runtime. The reminders of registered types fire without a call.
async fn open(database: &Path) -> Result<Runtime, Failure> {
    let builder = Runtime::builder().register::<House>().register::<Auction>();
    Ok(builder.register::<Account>().open(database).await?)
}

fn house(runtime: &Runtime) -> HouseClient {
    runtime.at::<House>("house", ())
}

/// Runs the house under load until SIGTERM, and prints what it has acknowledged and shown.
async fn run_house(database: &Path) -> Result<(), Failure> {
    let mut sigterm = unix::signal(unix::SignalKind::terminate())?;
    let runtime = open(database).await?;
    let mut load = JoinSet::new();
    load.spawn(list(runtime.clone()));
    load.spawn(feed(runtime.clone()));
    for number in 0..BIDDERS {
        load.spawn(bid(runtime.clone(), number));
    }
    tokio::select! {
        _ = sigterm.recv() => load.shutdown().await,
        Some(ended) = load.join_next() => ended??,
    }
    Ok(runtime.shutdown(Duration::from_secs(1)).await?)
}

async fn list(runtime: Runtime) -> Result<(), Failure> {
    for turn in 0.. {
        let closes = SystemTime::now() + LONGEST * (8 - turn % 8) / 8;
        let seller = format!("seller-{}", turn as usize % SELLERS);
        let lot = house(&runtime).list(Listing { seller, closes }).await?;
        writeln!(stdout(), "listed {lot}")?;
        sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

async fn bid(runtime: Runtime, number: usize) -> Result<(), Failure> {
    let bidder = format!("bidder-{number}");
    let account = runtime.at::<Account>(bidder.as_str(), CREDIT);
    for turn in number.. {
        let lots = house(&runtime).catalog().await?.into_iter().enumerate();
        let mut lots: Vec<_> = lots.filter(|(_, lot)| lot.closes > SystemTime::now()).collect();
        if lots.is_empty() {
            sleep(RETRY).await;
            continue;
        }
        let (lot, listing) = lots.swap_remove(turn % lots.len());
        let auction = runtime.at::<Auction>(lot, listing.clone());
        let amount = auction.price().await? + 100;
        // Two commits: the hold comes first, so that every bid is covered.
        if account.hold(lot, amount, listing.closes).await?
            && auction.bid(bidder.clone(), amount).await?
        {
            writeln!(stdout(), "accepted {lot} {bidder} {amount}")?;
        }
    }
    Ok(())
}

/// Follows the catalog, and the auction of each lot in it.
async fn feed(runtime: Runtime) -> Result<(), Failure> {
    let mut catalog = house(&runtime).changes().await?;
    let (mut auctions, mut followed) = (JoinSet::new(), 0);
    while let Some(change) = catalog.next().await {
        let Change::Committed(House(lots)) = change? else { continue };
        for (lot, listing) in lots.into_iter().enumerate().skip(followed) {
            followed = lot + 1;
            auctions.spawn(follow(runtime.at::<Auction>(lot, listing)));
        }
    }
    Ok(())
}

async fn follow(auction: AuctionClient) -> Result<(), Failure> {
    let mut changes = auction.changes().await?;
    while let Some(change) = changes.next().await {
        let Change::Committed(Auction { bids, closings, .. }) = change? else { continue };
        if closings > 0 {
            break;
        }
        if let Some(Bid { bidder, amount }) = bids.last() {
            writeln!(stdout(), "shown {} {bidder} {amount}", auction.key())?;
        }
    }
    Ok(())
}

/// Starts a house, and sends it a signal after a number of accepted bids. Returns its reports.
fn house_process(path: &Path, signal: &str, bids: usize) -> Result<Vec<String>, Failure> {
    let mut house = Command::new(env::current_exe()?).arg(path).stdout(Stdio::piped()).spawn()?;
    let (mut reports, mut accepted) = (Vec::new(), 0);
    // Everything that the house has written before its end is read.
    for line in BufReader::new(house.stdout.take().ok_or("no output")?).lines() {
        let line = line?;
        if line.starts_with("accepted") {
            accepted += 1;
            if accepted == bids {
                Command::new("kill").args(["-s", signal, &house.id().to_string()]).status()?;
            }
        }
        reports.push(line);
    }
    let end = house.wait()?;
    // A process that was killed has no exit code.
    assert_eq!(end.code(), (signal == "TERM").then_some(0), "the house ends as it is told: {end}");
    Ok(reports)
}

/// Waits until every auction is settled, and compares what is stored with the reports.
async fn audit(path: &Path, reports: &HashSet<String>, ended: SystemTime) -> Result<(), Failure> {
    let runtime = open(path).await?;
    let bidders = (0..BIDDERS).map(|number| (format!("bidder-{number}"), CREDIT));
    let sellers = (0..SELLERS).map(|number| (format!("seller-{number}"), 0));
    let mut balances = bidders.chain(sellers).collect::<BTreeMap<_, _>>();

    let (start, mut pending) = (Instant::now(), 1);
    while pending > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "reminders do not fire");
        sleep(Duration::from_millis(10)).await;
        pending = runtime.reminders::<House>("house").await?.len();
        for name in balances.keys() {
            pending += runtime.reminders::<Account>(name.as_str()).await?.len();
        }
    }

    let (mut stored, mut overdue) = (HashSet::new(), 0);
    let catalog = house(&runtime).catalog().await?;
    for (lot, Listing { seller, closes }) in catalog.iter().enumerate() {
        overdue += usize::from(*closes > ended);
        stored.insert(format!("listed {lot}"));
        let Auction { bids, closings, .. } = runtime.find::<Auction>(lot).await?.state().await?;
        assert_eq!(closings, 1, "auction {lot} closes once");
        for Bid { bidder, amount } in &bids {
            stored.insert(format!("accepted {lot} {bidder} {amount}"));
            stored.insert(format!("shown {lot} {bidder} {amount}"));
        }
        if let Some(Bid { bidder, amount }) = bids.last() {
            *balances.get_mut(bidder).expect("a bidder") -= amount;
            *balances.get_mut(seller).expect("a seller") += amount;
        }
    }
    let lost = reports.difference(&stored).next();
    assert_eq!(lost, None, "every report is true");
    assert!(overdue > 0, "auctions were open at the end");
    for (name, expected) in balances {
        let account = runtime.at::<Account>(name.as_str(), 0);
        assert_eq!(account.balance().await?, (expected, 0), "{name} has paid and been paid once");
    }
    println!("{} auctions closed once each, {overdue} of them late.", catalog.len());
    println!("{} reports are true, and no money is missing.", reports.len());
    Ok(runtime.shutdown(Duration::from_secs(1)).await?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    if let Some(database) = env::args_os().nth(1) {
        return run_house(Path::new(&database)).await;
    }
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("auction.db");
    let mut reports = HashSet::new();
    for round in 0..KILLS {
        reports.extend(house_process(&database, "KILL", 1 + 15 * round)?);
    }
    println!("{KILLS} houses were killed after {} reports.", reports.len());
    reports.extend(house_process(&database, "TERM", 100)?);
    let ended = SystemTime::now();
    sleep(LONGEST).await;
    audit(&database, &reports, ended).await
}
