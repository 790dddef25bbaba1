//! Pictures of the figures: `performance.svg` for the README, and `sustained.svg`.

use std::{fs, path::Path};

use crate::{Fallible, report::Plots};

mod bars;
mod lines;
mod svg;

/// Writes the pictures that the figures suffice for into `folder`.
pub fn write(folder: &Path, plots: &Plots) -> Fallible<()> {
    fs::create_dir_all(folder)?;
    if !plots.calls.is_empty() || !plots.durable.is_empty() {
        fs::write(folder.join("performance.svg"), bars::performance(plots))?;
    }
    if let Some(sustained) = &plots.sustained {
        fs::write(folder.join("sustained.svg"), lines::sustained(sustained))?;
    }
    Ok(())
}
