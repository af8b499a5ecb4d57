//! Rust source as the rules see it: code without comments, strings and, where asked, test code.
//!
//! Not a parser: it knows comments, literals and braces, which is what it takes to tell code from talk about code.

/// One file of `src/`.
pub(crate) struct SourceFile {
    /// Relative to the repository, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// The top-level module: `pool` for `src/pool/actor.rs`, `cli` for `src/cli.rs`.
    pub(crate) module: String,
    /// The module path: `["pool", "actor"]`.
    module_path: Vec<String>,
    /// Comments and literals blanked out; lines stay where they are.
    code: String,
    /// The same without items under `#[cfg(test)]`.
    production: String,
}

/// A top-level module that a file names.
pub(crate) struct Import {
    /// Line, from 1.
    pub(crate) line: usize,
    /// The module's name.
    pub(crate) module: String,
}

impl SourceFile {
    /// Parses `text` as the content of `path`.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let inside = path
            .strip_prefix("src/")
            .unwrap_or(path)
            .trim_end_matches(".rs");
        let mut module_path: Vec<String> = inside.split('/').map(str::to_owned).collect();
        if module_path.len() > 1 && module_path.last().is_some_and(|last| last == "mod") {
            module_path.pop();
        }
        let code = blank_comments_and_literals(text);
        let production = blank_test_items(&code);
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            module: module_path[0].clone(),
            module_path,
            code,
            production,
        }
    }

    /// The same file, all of it under `#[cfg(test)]`.
    pub(crate) fn into_test_code(mut self) -> Self {
        self.production = self.production.lines().map(|_| "\n").collect();
        self
    }

    /// Paths (without `.rs` or `/mod.rs`) of the files that this one includes for tests alone.
    pub(crate) fn test_files(&self) -> Vec<String> {
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let inside = self.path.trim_end_matches(".rs");
        let home = if inside.ends_with("/mod") || inside == "src/lib" {
            folder
        } else {
            inside
        };
        let mut found = Vec::new();
        let mut marked = false;
        let mut named = None;
        for line in self.text.lines().map(str::trim) {
            if line == "#[cfg(test)]" {
                marked = true;
            } else if let Some(path) = line.strip_prefix("#[path = \"") {
                named = path
                    .strip_suffix(".rs\"]")
                    .map(|name| format!("{folder}/{name}"));
            } else if let Some(name) = line
                .strip_prefix("mod ")
                .and_then(|rest| rest.strip_suffix(';'))
            {
                if marked {
                    found.push(named.take().unwrap_or_else(|| format!("{home}/{name}")));
                }
                marked = false;
                named = None;
            } else if line.ends_with('{') || line.ends_with(';') {
                marked = false;
                named = None;
            }
        }
        found
    }

    /// How many lines the file has.
    pub(crate) fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// Code with tests, line by line, from 1.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// Code without tests, line by line, from 1.
    pub(crate) fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.production
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// Every top-level module that production code names, through `crate::` or a chain of `super::` that reaches the
    /// root.
    pub(crate) fn imports(&self) -> Vec<Import> {
        let to_root = "super::".repeat(self.module_path.len());
        let mut imports = Vec::new();
        for prefix in ["crate::", to_root.as_str()] {
            for (at, _) in self.production.match_indices(prefix) {
                let before = self.production[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | ':')) {
                    continue;
                }
                for (offset, module) in heads(&self.production[at + prefix.len()..]) {
                    let end = at + prefix.len() + offset;
                    let line = self.production[..end].matches('\n').count() + 1;
                    imports.push(Import { line, module });
                }
            }
        }
        imports
    }
}

/// The first names of what follows `crate::`: one, or one for each entry of a `{...}` group, with their offsets.
fn heads(rest: &str) -> Vec<(usize, String)> {
    let name_at = |offset: usize| -> Option<(usize, String)> {
        let name: String = rest[offset..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        (!name.is_empty()).then_some((offset, name))
    };
    if !rest.starts_with('{') {
        return name_at(0).into_iter().collect();
    }
    let mut depth = 0_u32;
    let mut expects_name = false;
    let mut found = Vec::new();
    for (offset, c) in rest.char_indices() {
        match c {
            '{' => {
                depth += 1;
                expects_name = depth == 1;
            }
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' => expects_name = depth == 1,
            c if c.is_whitespace() => {}
            _ if expects_name => {
                found.extend(name_at(offset));
                expects_name = false;
            }
            _ => {}
        }
    }
    found
}

/// Replaces comments and the content of literals by spaces.
fn blank_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let length = blank_length(&chars, at);
        if length == 0 {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(
                chars[at..at + length]
                    .iter()
                    .map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            at += length;
        }
    }
    out
}

/// How many characters from `at` on are a comment or a literal; 0 = this one is code.
fn blank_length(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let identifier_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match rest {
        ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment_length(rest),
        ['"', ..] => string_length(rest),
        ['b', '"', ..] if !identifier_before => 1 + string_length(&rest[1..]),
        ['r', '"' | '#', ..] if !identifier_before => raw_string_length(rest),
        ['b', 'r', '"' | '#', ..] if !identifier_before => 1 + raw_string_length(&rest[1..]),
        // A character, not a lifetime: closed two characters on, or escaped.
        ['\'', '\\', ..] => {
            3 + rest[3..]
                .iter()
                .position(|c| *c == '\'')
                .map_or(0, |more| more + 1)
        }
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

fn block_comment_length(rest: &[char]) -> usize {
    let mut depth = 0_u32;
    let mut at = 0;
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn string_length(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// From the `r` of a raw string to its end; 0 when it is a raw identifier.
fn raw_string_length(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let mut at = 2 + hashes;
    while at < rest.len() {
        if rest[at] == '"'
            && rest[at + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
        {
            return at + 1 + hashes;
        }
        at += 1;
    }
    rest.len()
}

/// Replaces every item under `#[cfg(test)]` by spaces.
fn blank_test_items(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let length = MARK.len() + item_length(&rest[at + MARK.len()..]);
        out.extend(
            rest[at..at + length]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { ' ' }),
        );
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}

/// Up to the end of the item: a `;` outside of brackets, or the brace that closes the first one.
fn item_length(rest: &str) -> usize {
    let mut depth = 0_u32;
    for (at, c) in rest.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && c == '}' {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    #[test]
    fn files_of_tests_are_found_with_and_without_a_path() {
        let text = "mod a;\n#[cfg(test)]\n#[expect(x, reason = \"y\")]\nmod shadow;\n#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\n";
        let found = SourceFile::new("src/logic/b.rs", text).test_files();
        assert_eq!(found, ["src/logic/b/shadow", "src/logic/b_tests"]);
        let found = SourceFile::new("src/logic/mod.rs", text).test_files();
        assert_eq!(found, ["src/logic/shadow", "src/logic/b_tests"]);
    }

    use super::*;

    #[test]
    fn literals_and_comments_are_blank_and_lines_stay() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b\n/* c */ */ d", "a     \n           d"),
            (r#"f("x\"y") + g"#, "f(      ) + g"),
            ("r#\"a\"b\"# + c", "         + c"),
            ("br\"a\" + r#type", "      + r#type"),
            ("'a' + 'b + '\\n' + '\\u{1F}'", "    + 'b +      +         "),
            ("<'a>", "<'a>"),
        ];
        for (text, expected) in cases {
            assert_eq!(blank_comments_and_literals(text), expected, "{text}");
        }
    }

    #[test]
    fn a_use_group_gives_every_head() {
        let names = |text: &str| {
            heads(text)
                .into_iter()
                .map(|(_, name)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("pool::Settings"), ["pool"]);
        assert_eq!(
            names("{admin, logic::{event, peer}, relay as r}; use x"),
            ["admin", "logic", "relay"]
        );
    }
}
