//! Reads control paragraphs (deb822): what a Packages file, a Release file and the inside of a .deb are written in.

use std::io::{self, Read};
use std::str;

/// The longest line that is read; the longest in Debian 13 has 75 KiB.
const LONGEST_LINE: usize = 1 << 20;
/// The longest paragraph that is read; a Release file is one paragraph.
const LONGEST_PARAGRAPH: usize = 4 << 20;
/// The most fields that a paragraph may have.
const MOST_FIELDS: usize = 256;
/// How much is read at a time.
const CHUNK: usize = 256 << 10;

/// Where a control file breaks the rules: the paragraph and the line, both counted from 1.
#[derive(Debug, thiserror::Error)]
#[error("paragraph {paragraph}, line {line}: {reason}")]
pub struct ControlError {
    pub paragraph: u32,
    pub line: u32,
    pub reason: Reason,
}

/// Which rule a control file breaks.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    #[error("it contains a NUL byte")]
    Nul,
    #[error("it contains a carriage return")]
    CarriageReturn,
    #[error("it is not UTF-8")]
    Encoding,
    #[error("the line has more than {LONGEST_LINE} bytes")]
    LongLine,
    #[error("the paragraph has more than {LONGEST_PARAGRAPH} bytes")]
    LongParagraph,
    #[error("the paragraph has more than {MOST_FIELDS} fields")]
    ManyFields,
    #[error("the field `{0}` stands twice in the paragraph")]
    Duplicate(String),
    #[error("`{0}` is neither a field nor the continuation of one")]
    NotAField(String),
    #[error("a line of white space neither continues a field nor ends the paragraph")]
    WhiteSpace,
    #[error("the paragraph begins with the continuation of a field")]
    EarlyContinuation,
    #[error("there is no paragraph")]
    Empty,
    #[error("there is more than one paragraph")]
    Many,
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    #[error("the field `{field}` has the value `{value}`")]
    Value { field: &'static str, value: String },
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

/// One field: its name as written, its value without the white space around it, and its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a str,
    pub value: &'a str,
    pub line: u32,
}

/// One paragraph: fields whose names differ in more than case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paragraph<'a> {
    pub fields: Vec<Field<'a>>,
    pub number: u32,
    pub line: u32,
}

impl<'a> Paragraph<'a> {
    /// Reads a text that must be exactly one paragraph, such as the control file of a .deb.
    pub fn only(text: &'a [u8]) -> Result<Self, ControlError> {
        let mut paragraphs = Paragraphs::new(text, 1, 1)?;
        let at_start = |reason| ControlError { paragraph: 1, line: 1, reason };
        let first = paragraphs.next().ok_or_else(|| at_start(Reason::Empty))??;
        match paragraphs.next() {
            None => Ok(first),
            Some(second) => {
                let second = second?;
                Err(ControlError { paragraph: 2, line: second.line, reason: Reason::Many })
            }
        }
    }

    /// Returns the value of a field, whose name may be written in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Returns the value of a field that must be there.
    pub fn require(&self, name: &'static str) -> Result<&'a str, ControlError> {
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(|| self.error(name, Reason::Missing(name)))
    }

    /// Returns the value of a field parsed, or the default where the field is absent.
    pub fn parsed_or<T: str::FromStr>(&self, name: &'static str, default: T) -> Result<T, ControlError> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| self.bad_value(name)),
        }
    }

    /// Returns the value of a field that must be there, parsed.
    pub fn parsed<T: str::FromStr>(&self, name: &'static str) -> Result<T, ControlError> {
        self.require(name)?.parse().map_err(|_| self.bad_value(name))
    }

    /// Returns the error that says that a field's value is not what it must be.
    #[must_use]
    pub fn bad_value(&self, name: &'static str) -> ControlError {
        self.error(name, Reason::Value { field: name, value: excerpt(self.get(name).unwrap_or_default()) })
    }

    fn error(&self, name: &str, reason: Reason) -> ControlError {
        let field = self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        ControlError { paragraph: self.number, line: field.map_or(self.line, |field| field.line), reason }
    }
}

/// The paragraphs of a text in memory, read without copying.
#[derive(Debug)]
pub struct Paragraphs<'a> {
    rest: &'a str,
    number: u32,
    line: u32,
}

impl<'a> Paragraphs<'a> {
    /// Starts at a text whose first paragraph and line have these numbers.
    pub fn new(text: &'a [u8], number: u32, line: u32) -> Result<Self, ControlError> {
        let refuse = |at: usize, reason| {
            let before = &text[..at];
            let newlines = before.split(|byte| *byte == b'\n').count() - 1;
            let breaks = before.windows(3).filter(|bytes| bytes[..2] == *b"\n\n" && bytes[2] != b'\n').count();
            ControlError { paragraph: plus(number, breaks), line: plus(line, newlines), reason }
        };
        let rest = str::from_utf8(text).map_err(|error| refuse(error.valid_up_to(), Reason::Encoding))?;
        if let Some(at) = rest.find('\0') {
            return Err(refuse(at, Reason::Nul));
        }
        if let Some(at) = rest.find('\r') {
            return Err(refuse(at, Reason::CarriageReturn));
        }
        Ok(Self { rest, number, line })
    }

    /// Takes the next line, without its newline.
    fn take_line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find('\n');
        let line = &self.rest[..end.unwrap_or(self.rest.len())];
        self.rest = end.map_or("", |end| &self.rest[end + 1..]);
        self.line = plus(self.line, 1);
        Some(line)
    }

    /// Returns an error at the line that was taken last.
    fn error(&self, reason: Reason) -> ControlError {
        ControlError { paragraph: self.number, line: self.line.saturating_sub(1), reason }
    }

    fn paragraph(&mut self) -> Result<Option<Paragraph<'a>>, ControlError> {
        while let Some(rest) = self.rest.strip_prefix('\n') {
            self.rest = rest;
            self.line = plus(self.line, 1);
        }
        let mut paragraph = Paragraph { fields: Vec::with_capacity(24), number: self.number, line: self.line };
        let mut seen = 0_u64;
        loop {
            let start = self.rest;
            let Some(line) = self.take_line().filter(|line| !line.is_empty()) else { break };
            let name = self.checked_name(line)?;
            let bit = 1 << (name_hash(name) & 63);
            if seen & bit != 0 && paragraph.get(name).is_some() {
                return Err(self.error(Reason::Duplicate(name.to_owned())));
            }
            seen |= bit;
            if paragraph.fields.len() == MOST_FIELDS {
                return Err(self.error(Reason::ManyFields));
            }
            let first = self.line - 1;
            let mut length = line.len();
            while self.rest.starts_with([' ', '\t']) {
                let Some(more) = self.take_line() else { break };
                self.checked_continuation(more)?;
                length += 1 + more.len();
            }
            let value = start[name.len() + 1..length].trim_matches([' ', '\t', '\n']);
            paragraph.fields.push(Field { name, value, line: first });
        }
        if paragraph.fields.is_empty() {
            return Ok(None);
        }
        self.number = plus(self.number, 1);
        Ok(Some(paragraph))
    }

    /// Returns the name of the field that a line must begin.
    fn checked_name(&self, line: &'a str) -> Result<&'a str, ControlError> {
        if line.len() > LONGEST_LINE {
            return Err(self.error(Reason::LongLine));
        }
        if line.starts_with([' ', '\t']) {
            return Err(self.error(Reason::EarlyContinuation));
        }
        // Debian Policy, section 5.1: the characters of a name are printable, and the first is neither `-` nor `#`.
        line.split_once(':')
            .map(|(name, _)| name)
            .filter(|name| !name.is_empty() && !name.starts_with(['-', '#']) && name.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| self.error(Reason::NotAField(excerpt(line))))
    }

    fn checked_continuation(&self, line: &str) -> Result<(), ControlError> {
        if line.len() > LONGEST_LINE {
            return Err(self.error(Reason::LongLine));
        }
        // Readers disagree on whether such a line ends a paragraph.
        if line.trim_matches([' ', '\t']).is_empty() {
            return Err(self.error(Reason::WhiteSpace));
        }
        Ok(())
    }
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = Result<Paragraph<'a>, ControlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.paragraph().transpose();
        if matches!(result, Some(Err(_))) {
            self.rest = "";
        }
        result
    }
}

/// Reads all paragraphs of a stream, holding little more than one of them in memory.
pub fn read_paragraphs<R: Read, E: From<ControlError>>(
    mut from: R,
    mut each: impl FnMut(&Paragraph<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer: Vec<u8> = Vec::with_capacity(2 * CHUNK);
    let (mut number, mut line) = (1, 1);
    loop {
        let before = buffer.len();
        let reason = |reason| ControlError { paragraph: number, line, reason };
        let read = from.by_ref().take(CHUNK as u64).read_to_end(&mut buffer).map_err(|error| reason(Reason::Read(error)))?;
        let end = if read == 0 { Some(buffer.len()) } else { last_break(&buffer, before) };
        let Some(end) = end else {
            if buffer.len() > LONGEST_PARAGRAPH {
                return Err(reason(Reason::LongParagraph).into());
            }
            continue;
        };
        let mut paragraphs = Paragraphs::new(&buffer[..end], number, line)?;
        for paragraph in paragraphs.by_ref() {
            each(&paragraph?)?;
        }
        (number, line) = (paragraphs.number, paragraphs.line);
        if read == 0 {
            return Ok(());
        }
        buffer.drain(..end);
    }
}

/// Returns the end of the last paragraph that is surely whole; the bytes before `known` hold none.
fn last_break(buffer: &[u8], known: usize) -> Option<usize> {
    let start = known.saturating_sub(1);
    buffer[start..].windows(2).rposition(|pair| pair == b"\n\n").map(|at| start + at + 2)
}

fn plus(number: u32, more: usize) -> u32 {
    number.saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
}

/// Mixes the length and the ends of a name, so that most paragraphs need no search for a duplicate.
fn name_hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let byte = |at: usize| usize::from(bytes.get(at).copied().unwrap_or_default().to_ascii_lowercase());
    bytes.len() * 7 + byte(0) * 3 + byte(bytes.len() / 2) * 5 + byte(bytes.len().saturating_sub(1))
}

/// Returns the beginning of a text, fit for a message.
fn excerpt(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &[u8]) -> String {
        let result: Result<Vec<_>, _> = Paragraphs::new(text, 1, 1).and_then(Iterator::collect);
        result.unwrap_err().to_string()
    }

    #[test]
    fn fields_are_found_in_any_case_and_values_are_trimmed() {
        let paragraph = Paragraph::only(b"Package:  a \nDescription: short\n long\n .\n end\n\n").unwrap();
        assert_eq!(paragraph.get("package"), Some("a"));
        assert_eq!(paragraph.get("Description"), Some("short\n long\n .\n end"));
        assert_eq!(paragraph.get("Version"), None);
    }

    #[test]
    fn paragraphs_are_parted_by_any_number_of_empty_lines() {
        let numbers: Vec<_> = Paragraphs::new(b"\n\nA: 1\n\n\n\nB: 2\nC: 3\n\nD: 4", 1, 1)
            .unwrap()
            .map(|paragraph| paragraph.map(|paragraph| (paragraph.number, paragraph.line, paragraph.fields.len())).unwrap())
            .collect();
        assert_eq!(numbers, [(1, 3, 1), (2, 7, 2), (3, 10, 1)]);
    }

    #[test]
    fn what_breaks_the_rules_is_refused_with_paragraph_and_line() {
        let cases: [(&[u8], &str); 11] = [
            (b"A: 1\na: 2\n", "paragraph 1, line 2: the field `a` stands twice in the paragraph"),
            (b"A: 1\n\nB: \0\n", "paragraph 2, line 3: it contains a NUL byte"),
            (b"A: 1\r\nB: 2\n", "paragraph 1, line 1: it contains a carriage return"),
            (b"A: 1\n\nB: \xff\n", "paragraph 2, line 3: it is not UTF-8"),
            (b" A: 1\n", "paragraph 1, line 1: the paragraph begins with the continuation of a field"),
            (b"A: 1\n \nB: 1\n", "paragraph 1, line 2: a line of white space neither continues a field nor ends the paragraph"),
            (b"A: 1\nB\n", "paragraph 1, line 2: `B` is neither a field nor the continuation of one"),
            (b"A : 1\n", "paragraph 1, line 1: `A : 1` is neither a field nor the continuation of one"),
            (b"# A: 1\n", "paragraph 1, line 1: `# A: 1` is neither a field nor the continuation of one"),
            (b"A: 1\n\n\n-B: 1\n", "paragraph 2, line 4: `-B: 1` is neither a field nor the continuation of one"),
            (b": 1\n", "paragraph 1, line 1: `: 1` is neither a field nor the continuation of one"),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected);
        }
    }

    #[test]
    fn a_line_beyond_the_limit_is_refused() {
        let mut text = b"A: 1\nB: ".to_vec();
        text.resize(LONGEST_LINE + 10, b'x');
        assert_eq!(error(&text), "paragraph 1, line 2: the line has more than 1048576 bytes");
        text[5..8].copy_from_slice(b" B:");
        assert_eq!(error(&text), "paragraph 1, line 2: the line has more than 1048576 bytes");
    }

    #[test]
    fn too_many_fields_are_refused() {
        let text = (0..300).map(|number| format!("F{number}: x\n")).collect::<Vec<_>>().concat();
        assert_eq!(error(text.as_bytes()), "paragraph 1, line 257: the paragraph has more than 256 fields");
    }

    #[test]
    fn a_control_file_of_none_or_two_paragraphs_is_refused() {
        assert!(matches!(Paragraph::only(b"\n").unwrap_err().reason, Reason::Empty));
        assert!(matches!(Paragraph::only(b"A: 1\n\nB: 1\n").unwrap_err().reason, Reason::Many));
    }

    /// Gives a few bytes at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(buffer.len()).min(7000);
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn a_stream_gives_the_same_paragraphs_as_the_text() {
        let paragraph = |number: usize| format!("Package: p{number}\nDescription: é\n more\n{}", "\n".repeat(1 + number % 3));
        let text = (0..40_000).map(paragraph).collect::<Vec<_>>().concat();
        let whole: Vec<_> =
            Paragraphs::new(text.as_bytes(), 1, 1).unwrap().map(|paragraph| format!("{:?}", paragraph.unwrap())).collect();
        let mut dripped = Vec::new();
        read_paragraphs(Drip(text.as_bytes()), |paragraph| {
            dripped.push(format!("{paragraph:?}"));
            Ok::<_, ControlError>(())
        })
        .unwrap();
        assert_eq!(dripped.len(), 40_000);
        assert!(dripped == whole);
    }

    #[test]
    fn an_endless_paragraph_is_refused_before_it_fills_memory() {
        let line = io::repeat(b'x');
        let result = read_paragraphs(line, |_| Ok::<_, ControlError>(()));
        assert_eq!(result.unwrap_err().to_string(), "paragraph 1, line 1: the paragraph has more than 4194304 bytes");
    }
}
