use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs, io,
    path::Path,
};

use super::Random;

/// The unit that a disk writes atomically.
const SECTOR: usize = 512;

/// An operation that the shim has logged.
#[derive(Clone, Debug)]
pub enum Event {
    /// A file of this name was created.
    Create(String),
    /// The name was removed.
    Unlink(String),
    /// Bytes were written at an offset.
    Write(String, usize, Vec<u8>),
    /// A file was set to this length.
    Truncate(String, usize),
    /// The sync with this number began. Without a name it is a sync of the folder.
    SyncBegan(Option<String>, u64),
    /// The sync with this number succeeded.
    SyncEnded(u64),
    /// A sync failed. What it covered may be lost, even if a later sync succeeds.
    SyncFailed(String),
    /// The program wrote a mark.
    Mark(String),
    /// The shim let an operation fail.
    Fault,
}

/// Reads the log of the shim. File names are the suffixes after the path of the database.
///
/// # Errors
/// If the file cannot be read.
pub fn read_log(path: &Path) -> io::Result<Vec<Event>> {
    let bytes = fs::read(path)?;
    let (mut events, mut names) = (Vec::new(), HashMap::new());
    let mut rest = &bytes[..];
    // A program that was killed may have left its last entry unfinished.
    while let Some((head, behind)) = rest.split_at_checked(24) {
        let short = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four"));
        let long = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().expect("eight"));
        let size = usize::try_from(long(16)).expect("a size");
        let Some((data, behind)) = behind.split_at_checked(size) else {
            break;
        };
        rest = behind;
        let (kind, file, ticket) = (head[0], short(4), long(8));
        let at = usize::try_from(ticket).expect("an offset");
        let text = || String::from_utf8_lossy(data).into_owned();
        let name = || -> String { names.get(&file).cloned().expect("a name") };
        events.push(match kind {
            b'n' => {
                names.insert(file, text());
                continue;
            }
            b'c' => Event::Create(name()),
            b'u' => Event::Unlink(name()),
            b'w' => Event::Write(name(), at, data.to_vec()),
            b't' => Event::Truncate(name(), at),
            b's' => Event::SyncBegan(names.get(&file).cloned(), ticket),
            b'e' => Event::SyncEnded(ticket),
            b'd' => Event::SyncFailed(name()),
            b'm' => Event::Mark(text()),
            b'f' => Event::Fault,
            other => panic!("no such entry: {other}"),
        });
    }
    Ok(events)
}

/// Operations that are not durable yet.
#[derive(Clone, Debug)]
struct Pending<T> {
    queue: VecDeque<T>,
    /// The number of operations so far, durable or not.
    done: u64,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), done: 0 }
    }
}

impl<T> Pending<T> {
    fn push(&mut self, operation: T) {
        self.queue.push_back(operation);
        self.done += 1;
    }

    /// Removes the operations among the first `done`.
    fn take(&mut self, done: u64) -> impl Iterator<Item = T> {
        let left = usize::try_from(self.done - done).expect("few");
        let taken = self.queue.len().saturating_sub(left);
        self.queue.drain(..taken)
    }
}

#[derive(Clone, Debug)]
enum Write {
    At(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct File {
    /// The content that survives a power cut.
    durable: Vec<u8>,
    /// The writes that may survive one, each with whether its sync has failed.
    pending: Pending<(Write, bool)>,
}

/// The files of a folder as the disk has them, and the operations that the operating system has
/// not made durable yet.
#[derive(Clone, Debug)]
pub struct Disk {
    files: Vec<File>,
    /// The files by name, as programs see them.
    seen: BTreeMap<String, usize>,
    /// The files by name after a power cut.
    durable: BTreeMap<String, usize>,
    renamed: Pending<(String, Option<usize>)>,
    /// The writes that each sync in progress covers.
    syncs: HashMap<u64, (Option<usize>, u64)>,
    random: Random,
}

impl Disk {
    /// Creates a disk with durable copies of the database and its logs.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn new(database: &Path, seed: u64) -> io::Result<Self> {
        let mut disk = Self {
            files: Vec::new(),
            seen: BTreeMap::new(),
            durable: BTreeMap::new(),
            renamed: Pending::default(),
            syncs: HashMap::new(),
            random: Random::new(seed),
        };
        for suffix in ["", "-wal", "-journal"] {
            let mut path = database.as_os_str().to_owned();
            path.push(suffix);
            if Path::new(&path).exists() {
                disk.seen.insert(suffix.to_owned(), disk.files.len());
                disk.files.push(File { durable: fs::read(path)?, pending: Pending::default() });
            }
        }
        disk.durable = disk.seen.clone();
        Ok(disk)
    }

    fn file(&mut self, name: &str) -> &mut File {
        let index = *self.seen.get(name).unwrap_or_else(|| panic!("there is no file {name:?}"));
        &mut self.files[index]
    }

    /// Applies the next operation.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Create(name) => {
                self.seen.insert(name.clone(), self.files.len());
                self.renamed.push((name.clone(), Some(self.files.len())));
                self.files.push(File::default());
            }
            Event::Unlink(name) => {
                self.seen.remove(name);
                self.renamed.push((name.clone(), None));
            }
            Event::Write(name, at, bytes) => {
                self.file(name).pending.push((Write::At(*at, bytes.clone()), false));
            }
            Event::Truncate(name, length) => {
                self.file(name).pending.push((Write::Length(*length), false));
            }
            Event::SyncBegan(name, ticket) => {
                let file = name.as_ref().map(|name| self.seen[name]);
                let done = file.map_or(self.renamed.done, |file| self.files[file].pending.done);
                self.syncs.insert(*ticket, (file, done));
            }
            Event::SyncEnded(ticket) => match self.syncs.remove(ticket).expect("the sync began") {
                (None, done) => {
                    for (name, file) in self.renamed.take(done) {
                        rename(&mut self.durable, name, file);
                    }
                }
                (Some(file), done) => {
                    let File { durable, pending } = &mut self.files[file];
                    for (write, doubtful) in pending.take(done) {
                        if !doubtful || self.random.chance(1, 2) {
                            put(durable, &write);
                        }
                    }
                }
            },
            Event::SyncFailed(name) => {
                for (_, doubtful) in &mut self.file(name).pending.queue {
                    *doubtful = true;
                }
            }
            Event::Mark(_) | Event::Fault => {}
        }
    }

    /// Writes the files that a power cut may leave now to `database` and beside it. Of the
    /// operations that were not synced, all, none, some writes or some sectors survive.
    ///
    /// A sector that was written several times has the content after one of these writes. So
    /// reordering the writes would not produce other results.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn cut(&self, database: &Path, random: &mut Random) -> io::Result<()> {
        let kept = Kept::any(random);
        let mut names = self.durable.clone();
        let mut stuck = HashSet::new();
        for (name, file) in &self.renamed.queue {
            // Operations on one name survive in order.
            if !stuck.contains(name) && kept.keeps(random) {
                rename(&mut names, name.clone(), *file);
            } else {
                stuck.insert(name);
            }
        }
        for (suffix, file) in names {
            let File { durable, pending } = &self.files[file];
            let mut bytes = durable.clone();
            let mut stuck = HashSet::new();
            for (write, _) in &pending.queue {
                match write {
                    Write::At(at, data) if let Kept::Sectors(_) = kept => {
                        let mut from = 0;
                        while from < data.len() {
                            let sector = (at + from) / SECTOR;
                            let to = data.len().min((sector + 1) * SECTOR - at);
                            if !stuck.contains(&sector) && kept.keeps(random) {
                                put_bytes(&mut bytes, at + from, &data[from..to]);
                            } else {
                                stuck.insert(sector);
                            }
                            from = to;
                        }
                    }
                    write if kept.keeps(random) => put(&mut bytes, write),
                    _ => {}
                }
            }
            let mut path = database.as_os_str().to_owned();
            path.push(suffix);
            fs::write(path, bytes)?;
        }
        Ok(())
    }
}

/// Which operations that are not durable survive a power cut.
#[derive(Clone, Copy)]
enum Kept {
    All,
    None,
    /// Each write, with this probability out of eight.
    Writes(usize),
    /// Each sector of each write, likewise.
    Sectors(usize),
}

impl Kept {
    fn any(random: &mut Random) -> Self {
        let odds = [1, 4, 7][random.within(0..3)];
        match random.within(0..6) {
            0 => Self::All,
            1 => Self::None,
            2 | 3 => Self::Writes(odds),
            _ => Self::Sectors(odds),
        }
    }

    fn keeps(self, random: &mut Random) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Writes(odds) | Self::Sectors(odds) => random.chance(odds, 8),
        }
    }
}

fn rename(names: &mut BTreeMap<String, usize>, name: String, file: Option<usize>) {
    match file {
        Some(file) => names.insert(name, file),
        None => names.remove(&name),
    };
}

fn put(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::At(at, data) => put_bytes(bytes, *at, data),
        Write::Length(length) => bytes.resize(*length, 0),
    }
}

fn put_bytes(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}
