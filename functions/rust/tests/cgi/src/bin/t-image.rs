//! Reads a PNG picture from the request, and answers with one of at most 32 pixels each way.

use std::io::{Cursor, Read as _, Write as _};

use image::ImageFormat;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    let picture = image::load_from_memory_with_format(&bytes, ImageFormat::Png)?;
    let mut small = Cursor::new(Vec::new());
    picture.thumbnail(32, 32).write_to(&mut small, ImageFormat::Png)?;
    let mut out = std::io::stdout().lock();
    out.write_all(b"Content-Type: image/png\n\n")?;
    out.write_all(small.get_ref())?;
    Ok(())
}
