//! Short names for what the wasm imports from the JavaScript beside it.
//!
//! wasm-bindgen calls them `__wbg_getAllKeys_cc55957bda37fb47`: unmistakable while it links, and
//! mostly noise that no compression takes away, once in the wasm and once in the script. Both are
//! only ever used together, so after the last step that needs the long names they become `a0`, `a1`
//! and so on.

use crate::wasm_sections::{HEADER, IMPORT, Reader};

/// The module that stands for wasm-bindgen's own script.
const SCRIPT: &str = "./landfall_bg.js";

/// The module and its script with short names. `None` where they are not as wasm-bindgen makes them.
pub(crate) fn shorten(module: &[u8], script: &str) -> Option<(Vec<u8>, String)> {
    let mut script = script.to_owned();
    let mut out = HEADER.to_vec();
    let mut rest = Reader(module.strip_prefix(HEADER)?);
    while !rest.0.is_empty() {
        let id = rest.byte()?;
        let length = rest.number()?;
        let section = rest.take(length)?;
        out.push(id);
        if id == IMPORT {
            let imports = imports(section, &mut script)?;
            put_number(&mut out, imports.len());
            out.extend(imports);
        } else {
            put_number(&mut out, section.len());
            out.extend(section);
        }
    }
    Some((out, script))
}

fn imports(section: &[u8], script: &mut String) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = Reader(section);
    let count = rest.number()?;
    put_number(&mut out, count);
    for index in 0..count {
        let (module, name) = (rest.name()?, rest.name()?);
        let before = rest.0;
        rest.import_type()?;
        let kind = before.strip_suffix(rest.0)?;
        put_name(&mut out, &module);
        if module == SCRIPT {
            let short = format!("a{index}");
            *script = renamed(script, &name, &short)?;
            put_name(&mut out, &short);
        } else {
            put_name(&mut out, &name);
        }
        out.extend(kind);
    }
    Some(out)
}

/// The script with another name for one property of the object that it hands to the module.
fn renamed(script: &str, name: &str, short: &str) -> Option<String> {
    let property = format!("\n        {name}: ");
    let (before, after) = script.split_once(&property)?;
    (!after.contains(&property)).then(|| format!("{before}\n        {short}: {after}"))
}

pub(crate) fn put_name(out: &mut Vec<u8>, name: &str) {
    put_number(out, name.len());
    out.extend(name.as_bytes());
}

/// LEB128, seven bits in each byte.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module that imports these functions, and has a section behind.
    fn module(imports: &[(&str, &str)]) -> Vec<u8> {
        let mut section = vec![imports.len() as u8];
        for (module, name) in imports {
            put_name(&mut section, module);
            put_name(&mut section, name);
            section.extend([0, 7]);
        }
        let mut module = HEADER.to_vec();
        module.push(IMPORT);
        put_number(&mut module, section.len());
        module.extend(section);
        module.extend([3, 1, 0]);
        module
    }

    #[test]
    fn both_sides_get_the_same_name() {
        let long = "__wbg_get_0123456789abcdef";
        let elsewhere = ("./snippets/glue.js", "__wbg_get_0123456789abcdef");
        let script =
            format!("const import0 = {{\n        {long}: function() {{}},\n    }}; {long}");
        let (short, script) = shorten(&module(&[elsewhere, (SCRIPT, long)]), &script).unwrap();
        assert_eq!(short, module(&[elsewhere, (SCRIPT, "a1")]));
        let expected = format!("const import0 = {{\n        a1: function() {{}},\n    }}; {long}");
        assert_eq!(script, expected);
    }

    #[test]
    fn a_long_section_keeps_its_length() {
        let names: Vec<String> = (0..100).map(|n| format!("__wbg_name_{n}")).collect();
        let imports: Vec<_> = names.iter().map(|n| (SCRIPT, n.as_str())).collect();
        let script: String = names.iter().map(|n| format!("\n        {n}: 0,")).collect();
        let short: Vec<String> = (0..100).map(|n| format!("a{n}")).collect();
        let expected: Vec<_> = short.iter().map(|n| (SCRIPT, n.as_str())).collect();
        let (found, script) = shorten(&module(&imports), &script).unwrap();
        assert_eq!(found, module(&expected));
        assert!(script.contains("\n        a99: 0,") && !script.contains("__wbg"));
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let long = (SCRIPT, "__wbg_get");
        assert_eq!(shorten(&module(&[long]), "no such property"), None);
        let twice = "\n        __wbg_get: 0,\n        __wbg_get: 0,";
        assert_eq!(shorten(&module(&[long]), twice), None);
        assert_eq!(shorten(b"<!doctype html>", ""), None);
    }
}
