//! The entries of a tar file that a stranger wrote: read as a stream, with nothing believed.

#[cfg(test)]
mod tests;

use std::io::{self, Read};

use tar::Header;
use thiserror::Error;

/// What describes an entry beside its header: long paths, pax records.
const EXTENSION_LIMIT: u64 = 1 << 20;
const BLOCK: u64 = 512;

/// Why a tar file cannot be read on.
#[derive(Debug, Error)]
pub enum TarError {
    /// No more bytes, or no more that can be decompressed.
    #[error("the tar file ends early or is broken")]
    Read(#[source] io::Error),
    /// The bytes are no header.
    #[error("no header of a tar file at byte {offset}: {why}")]
    Header {
        /// Where.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A path or an attribute that no honest file has.
    #[error(
        "what describes an entry at byte {offset} takes {size} bytes, above the limit of {EXTENSION_LIMIT}"
    )]
    Extension {
        /// Where.
        offset: u64,
        /// How large it says it is.
        size: u64,
    },
}

/// One entry; its content is read from [`Entries`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) modified: i64,
    pub(crate) size: u64,
    pub(crate) attributes: Vec<(String, Vec<u8>)>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Device,
    Fifo,
    /// As tar calls it.
    Other(char),
}

/// The entries of a tar file, in their order.
#[derive(Debug)]
pub(crate) struct Entries<R> {
    source: R,
    offset: u64,
    /// Of the entry that was given out last.
    content: u64,
    padding: u64,
}

/// What precedes an entry and changes it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Vec<(String, Vec<u8>)>,
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte {
            0 | b'0' | b'7' => Self::File,
            b'1' => Self::HardLink,
            b'2' => Self::Symlink,
            b'3' | b'4' => Self::Device,
            b'5' => Self::Directory,
            b'6' => Self::Fifo,
            other => Self::Other(char::from(other)),
        }
    }
}

impl<R: Read> Entries<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, offset: 0, content: 0, padding: 0 }
    }

    /// The next entry, or none at the end; what was not read of the one before is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|error| self.wrong(&error))?;
            match header.entry_type().as_byte() {
                b'x' => {
                    let records = self.extension(size)?;
                    extensions.pax =
                        pax_records(&records).ok_or_else(|| self.wrong(&"broken pax records"))?;
                }
                b'g' => drop(self.extension(size)?),
                b'L' => extensions.path = Some(until_nul(self.extension(size)?)),
                b'K' => extensions.link = Some(until_nul(self.extension(size)?)),
                _ => {
                    let entry = entry(&header, size, extensions).map_err(|error| self.wrong(&error))?;
                    self.expect(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// How far it was read: right after [`Entries::next`], where the content of the entry begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Everything after the last entry, so that a hash of the stream is of all of it.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        io::copy(&mut self.source, &mut io::sink()).map(drop)
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        // A file that ends between two entries ends there; many programs leave the closing zeros out.
        let first = self.source.read(block).map_err(TarError::Read)?;
        if first == 0 {
            return Ok(None);
        }
        self.source.read_exact(&mut block[first..]).map_err(TarError::Read)?;
        self.offset += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
        match header.cksum() {
            Ok(written) if written == sum + 8 * u32::from(b' ') => Ok(Some(header)),
            Ok(_) => Err(self.wrong(&"its checksum is wrong")),
            Err(error) => Err(self.wrong(&error)),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > EXTENSION_LIMIT {
            return Err(TarError::Extension { offset: self.offset, size });
        }
        self.expect(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(TarError::Read)?;
        Ok(bytes)
    }

    fn expect(&mut self, size: u64) {
        self.content = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    /// Passes over the rest of the last entry.
    fn skip(&mut self) -> Result<(), TarError> {
        io::copy(self, &mut io::sink()).map_err(TarError::Read)?;
        let padding = self.padding;
        let passed =
            io::copy(&mut self.source.by_ref().take(padding), &mut io::sink()).map_err(TarError::Read)?;
        self.offset += passed;
        self.padding = 0;
        if passed < padding { Err(TarError::Read(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
    }

    fn wrong(&self, why: &dyn ToString) -> TarError {
        TarError::Header { offset: self.offset.saturating_sub(BLOCK), why: why.to_string() }
    }
}

/// The content of the last entry. An end before its size is an error, not an end.
impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }
}

fn entry(header: &Header, size: u64, extensions: Extensions) -> Result<Entry, String> {
    let text = |error: io::Error| error.to_string();
    let mut entry = Entry {
        path: extensions.path.unwrap_or_else(|| header.path_bytes().into_owned()),
        link: extensions
            .link
            .unwrap_or_else(|| header.link_name_bytes().map_or_else(Vec::new, std::borrow::Cow::into_owned)),
        kind: Kind::of(header.entry_type().as_byte()),
        mode: header.mode().map_err(text)?,
        owner: (header.uid().map_err(text)?, header.gid().map_err(text)?),
        modified: header.mtime().map_err(text)?.cast_signed(),
        size,
        attributes: Vec::new(),
    };
    for (key, value) in extensions.pax {
        let number = || {
            let text = str::from_utf8(&value).ok();
            text.and_then(|text| text.parse().ok())
                .ok_or_else(|| format!("its pax record {key} is no number"))
        };
        match key.as_str() {
            "path" => entry.path = value,
            "linkpath" => entry.link = value,
            "size" => entry.size = number()?,
            "uid" => entry.owner.0 = number()?,
            "gid" => entry.owner.1 = number()?,
            "mtime" => entry.modified = seconds(&value).ok_or("its pax record mtime is no time")?,
            _ if key.starts_with("GNU.sparse.") => return Err("a sparse file".to_owned()),
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    entry.attributes.push((name.to_owned(), value));
                }
            }
        }
    }
    if entry.kind == Kind::File && entry.path.ends_with(b"/") {
        // So directories were written before there was a kind for them.
        entry.kind = Kind::Directory;
    }
    if !matches!(entry.kind, Kind::File | Kind::Other(_)) {
        // No content follows these, whatever they say.
        entry.size = 0;
    }
    Ok(entry)
}

/// Whole seconds of a time with or without a fraction.
fn seconds(text: &[u8]) -> Option<i64> {
    let text = str::from_utf8(text).ok()?;
    text.split_once('.').map_or(text, |(whole, _)| whole).parse().ok()
}

/// `LENGTH KEY=VALUE\n` until the end, where the length is that of all this. A value may be any bytes.
fn pax_records(mut bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let key = String::from_utf8(record[..equals].to_vec()).ok()?;
        records.push((key, record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Some(records)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}
