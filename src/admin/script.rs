//! The page's modules as one script: a browser asks once, not once for each of them.
//!
//! Each module becomes a function that gives what it exports, so that its other names stay its own.
//! Known is what the page has use for: `import { a, b } from './x.js';` and `export` before a
//! declaration, each at the beginning of a line; whoever is imported stands before the importer.

/// `modules`: names without `.js`, and texts; the last one runs the page.
pub(super) fn linked(modules: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, text) in modules {
        out.extend(["const $", name, " = (() => {\n"]);
        let mut exports = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("import {") {
                let mut import = line.to_owned();
                while let Some(more) = (!import.ends_with(';')).then(|| lines.next()).flatten() {
                    import.push_str(more);
                }
                out.push_str(&imported(&import));
            } else if let Some(declaration) = line.strip_prefix("export ") {
                exports.push(declared(declaration));
                out.push_str(declaration);
            } else {
                out.push_str(line);
            }
            out.push('\n');
        }
        out.extend(["return { ", &exports.join(", "), " };\n})();\n"]);
    }
    out
}

/// `import { a, b } from './x.js';` as `const { a, b } = $x;`.
fn imported(import: &str) -> String {
    let names = import.split(['{', '}']).nth(1).unwrap_or_default();
    let from = import.split_once("'./").and_then(|(_, from)| from.split_once(".js'"));
    format!("const {{{names}}} = ${};", from.map_or("", |(from, _)| from))
}

/// The name in `const NAME = …`, `function NAME(…)` or `async function NAME(…)`.
fn declared(declaration: &str) -> &str {
    let word = |c: char| !c.is_alphanumeric() && c != '_';
    let kinds = ["async", "function", "const", "class", ""];
    declaration.split(word).find(|part| !kinds.contains(part)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_become_functions_that_know_what_they_imported() {
        let one = "// one\nconst own = 1;\nexport const A = own;\nexport function b(x) {\n  return x;\n}\n";
        let two = "import {\n  A,\n  b,\n} from './one.js';\nimport { zero } from './zero.js';\n";
        let want = "const $one = (() => {\n// one\nconst own = 1;\nconst A = own;\nfunction b(x) {\n  \
                    return x;\n}\nreturn { A, b };\n})();\n\
                    const $two = (() => {\nconst {  A,  b,} = $one;\nconst { zero } = $zero;\n\
                    return {  };\n})();\n";
        assert_eq!(linked(&[("one", one), ("two", two)]), want);
        let later = "export async function later() {}\nexport class Kind {}\n";
        assert!(linked(&[("x", later)]).contains("return { later, Kind };"));
    }
}
