// What BuildKit's shell lexer makes of words, and moby's pattern matcher of paths. Run by ./record.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

func main() {
	each(filepath.Join(os.Args[1], "expand"), expand)
	each(filepath.Join(os.Args[1], "ignore"), ignore)
	generate(filepath.Join(os.Args[1], "match", "generated", "patterns"), 600)
	each(filepath.Join(os.Args[1], "match"), match)
}

func each(dir string, record func(string) string) {
	cases, err := filepath.Glob(filepath.Join(dir, "*"))
	must(err)
	for _, dir := range cases {
		must(os.WriteFile(filepath.Join(dir, "expected.txt"), []byte(record(dir)), 0o644))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func lines(path string) []string {
	text, err := os.ReadFile(path)
	must(err)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func quoted(value any) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	must(encoder.Encode(value))
	return strings.TrimSpace(text.String())
}

// For each word its text and the words that it splits into; or that it is refused, with the reason.
func expand(dir string) string {
	lexer := shell.NewLex('\\')
	if _, err := os.Stat(filepath.Join(dir, "backtick")); err == nil {
		lexer = shell.NewLex('`')
	}
	env := shell.EnvsFromSlice(lines(filepath.Join(dir, "variables")))
	var text strings.Builder
	for _, word := range lines(filepath.Join(dir, "words")) {
		fmt.Fprintln(&text, word)
		result, _, err := lexer.ProcessWord(word, env)
		if err != nil {
			fmt.Fprintf(&text, "  refused: %v\n", err)
			continue
		}
		split, err := lexer.ProcessWords(word, env)
		must(err)
		if split == nil {
			split = []string{}
		}
		fmt.Fprintf(&text, "  %s %s\n", quoted(result), quoted(split))
	}
	return text.String()
}

// For each path whether a context has it, walking down to it as BuildKit does; or that the file is
// refused, with the reason.
func ignore(dir string) string {
	file, err := os.Open(filepath.Join(dir, "dockerignore"))
	must(err)
	patterns, err := ignorefile.ReadAll(file)
	if err != nil {
		return fmt.Sprintf("refused: %v\n", err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return fmt.Sprintf("refused: %v\n", err)
	}
	var text strings.Builder
	for _, path := range lines(filepath.Join(dir, "paths")) {
		var info patternmatcher.MatchInfo
		ignored := false
		parts := strings.Split(path, "/")
		for count := range parts {
			ignored, info, err = matcher.MatchesUsingParentResults(strings.Join(parts[:count+1], "/"), info)
			if err != nil {
				return fmt.Sprintf("refused: %v\n", err)
			}
		}
		verdict := "kept"
		if ignored {
			verdict = "ignored"
		}
		fmt.Fprintf(&text, "%-7s %s\n", verdict, path)
	}
	return text.String()
}

// For each pattern alone the paths that it matches; or that it is refused, with the reason.
func match(dir string) string {
	paths := lines(filepath.Join(dir, "paths"))
	var text strings.Builder
	for _, pattern := range lines(filepath.Join(dir, "patterns")) {
		fmt.Fprintln(&text, pattern)
		matched, err := matching(pattern, paths)
		if err != nil {
			fmt.Fprintf(&text, "  refused: %v\n", err)
			continue
		}
		fmt.Fprintf(&text, "  %s\n", quoted(matched))
	}
	return text.String()
}

func matching(pattern string, paths []string) ([]string, error) {
	matcher, err := patternmatcher.New([]string{pattern})
	if err != nil {
		return nil, err
	}
	matched := []string{}
	for _, path := range paths {
		ignored, err := matcher.MatchesOrParentMatches(path)
		if err != nil {
			return nil, err
		}
		if ignored {
			matched = append(matched, path)
		}
	}
	return matched, nil
}

// What patterns are put together from: pieces of classes most of all.
var pieces = []string{
	"[", "[", "[", "[^", "]", "]", "]", "-", "^", "!", "*", "*", "**", "?", "?", "/", "/",
	"a", "a", "b", "c", "d", "1", "é", ".", "$", "(", "|", "{", "}", "{2}", "{1,}", "{0,2}", "[:alpha:]", "[a-c]", "[^a]", "[*", "[?", "?]", "*]",
	`\*`, `\?`, `\[`, `\]`, `\\`, `\-`, `\^`, `\d`, `\W`, `\b`, `\B`, `\A`, `\z`, `\Q`, `\E`, `\x61`, `\141`, `\é`,
}

// Patterns of every kind, always the same ones; every fourth may be refused, since most texts like these are.
func generate(file string, count int) {
	random := rand.New(rand.NewPCG(1, 2))
	known := map[string]bool{}
	var patterns []string
	for refused := 0; len(patterns) < count; {
		pattern := ""
		for range 1 + random.IntN(8) {
			pattern += pieces[random.IntN(len(pieces))]
		}
		// An exception alone is never asked, and a blank is none.
		if known[pattern] || strings.HasPrefix(filepath.Clean(pattern), "!") {
			continue
		}
		known[pattern] = true
		if _, err := matching(pattern, []string{"a"}); err != nil {
			if 4*refused > count {
				continue
			}
			refused++
		}
		patterns = append(patterns, pattern)
	}
	must(os.WriteFile(file, []byte(strings.Join(patterns, "\n")+"\n"), 0o644))
}
