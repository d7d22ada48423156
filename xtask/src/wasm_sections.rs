//! Just enough of the wasm format to tell which function takes how many bytes.
//!
//! A module is a list of sections, each with an id and a length. Of interest are the imports
//! (functions are numbered from the imported ones on), the code, and the custom section `name`.
//! See <https://webassembly.github.io/spec/core/binary/modules.html>.

use std::collections::HashMap;

/// One part of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// A function's name, or `data section` and the like.
    pub(crate) name: String,
    /// What it takes in the module.
    pub(crate) bytes: u64,
    /// Whether it is a function.
    pub(crate) is_function: bool,
}

/// How every module begins: its kind, and the format's version.
pub(crate) const HEADER: &[u8] = b"\0asm\x01\0\0\0";
pub(crate) const CUSTOM: u8 = 0;
pub(crate) const IMPORT: u8 = 2;
pub(crate) const CODE: u8 = 10;
const SECTIONS: [&str; 14] = [
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data count",
    "tag",
];
/// The subsection of `name` that holds the names of functions.
pub(crate) const FUNCTION_NAMES: u8 = 1;

/// The parts of the module, but for the names themselves. `None` if it is not a wasm module.
pub(crate) fn parts(module: &[u8]) -> Option<Vec<Part>> {
    let mut reader = Reader(module.strip_prefix(HEADER)?);
    let mut parts = Vec::new();
    let mut imported = 0;
    let mut bodies = Vec::new();
    let mut names = HashMap::new();
    while !reader.0.is_empty() {
        let id = reader.byte()?;
        let length = reader.number()?;
        let mut section = Reader(reader.take(length)?);
        let size = u64::try_from(section.0.len()).ok()?;
        match id {
            CUSTOM => {
                let name = section.name()?;
                if name == "name" {
                    names = function_names(section).unwrap_or_default();
                } else {
                    parts.push(other(format!("custom section {name}"), size));
                }
            }
            IMPORT => {
                imported = section.imported_functions()?;
                parts.push(other("import section".to_owned(), size));
            }
            CODE => {
                for _ in 0..section.number()? {
                    let length = section.number()?;
                    bodies.push(section.take(length)?.len());
                }
            }
            _ => {
                let name = SECTIONS.get(usize::from(id)).copied().unwrap_or("unknown");
                parts.push(other(format!("{name} section"), size));
            }
        }
    }
    for (index, bytes) in (imported..).zip(bodies) {
        let name = names.get(&index).cloned();
        parts.push(Part {
            name: name.unwrap_or_else(|| format!("function {index}")),
            bytes: u64::try_from(bytes).ok()?,
            is_function: true,
        });
    }
    Some(parts)
}

fn other(name: String, bytes: u64) -> Part {
    Part {
        name,
        bytes,
        is_function: false,
    }
}

fn function_names(mut section: Reader<'_>) -> Option<HashMap<usize, String>> {
    while !section.0.is_empty() {
        let id = section.byte()?;
        let length = section.number()?;
        let mut names = Reader(section.take(length)?);
        if id == FUNCTION_NAMES {
            return (0..names.number()?)
                .map(|_| Some((names.number()?, names.name()?)))
                .collect();
        }
    }
    None
}

/// What is left to read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// LEB128, seven bits in each byte.
    pub(crate) fn number(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn name(&mut self) -> Option<String> {
        let length = self.number()?;
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    /// How many functions a section of imports has.
    pub(crate) fn imported_functions(&mut self) -> Option<usize> {
        let mut functions = 0;
        for _ in 0..self.number()? {
            self.name()?;
            self.name()?;
            functions += usize::from(self.import_type()?);
        }
        Some(functions)
    }

    /// What an import is; answers whether it is a function.
    pub(crate) fn import_type(&mut self) -> Option<bool> {
        let kind = self.byte()?;
        match kind {
            0 => {
                self.number()?;
            }
            1 => {
                self.value_type()?;
                self.limits()?;
            }
            2 => self.limits()?,
            3 => {
                self.value_type()?;
                self.byte()?;
            }
            4 => {
                self.byte()?;
                self.number()?;
            }
            _ => return None,
        }
        Some(kind == 0)
    }

    /// A type of value; the two long forms of reference types have a heap type behind them.
    fn value_type(&mut self) -> Option<()> {
        if matches!(self.byte()?, 0x63 | 0x64) {
            self.number()?;
        }
        Some(())
    }

    fn limits(&mut self) -> Option<()> {
        let flags = self.byte()?;
        self.number()?;
        if flags & 1 == 1 {
            self.number()?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_module_by_hand() {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        // Imports: one memory and one function, so that ours is number 1.
        module.extend([2, 14, 2, 1, b'e', 1, b'm', 2, 0, 1, 1, b'e', 1, b'f', 0, 0]);
        module.extend([10, 5, 1, 3, 0, 0x01, 0x0b]);
        module.extend([0, 12, 4, b'n', b'a', b'm', b'e', 1, 5, 1, 1, 2, b'g', b'o']);
        let parts = parts(&module).expect("it is a module");
        assert_eq!(parts[0], other("import section".to_owned(), 14));
        assert_eq!(
            parts[1],
            Part {
                name: "go".to_owned(),
                bytes: 3,
                is_function: true
            }
        );
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn refuses_what_is_not_a_module() {
        assert_eq!(parts(b"hello"), None);
        assert_eq!(parts(b"\0asm\x01\0\0\0\x0a\x7f"), None);
    }
}
