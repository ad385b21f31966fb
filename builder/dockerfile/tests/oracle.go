// What BuildKit's shell lexer makes of words, and moby's pattern matcher of paths. Run by ./record.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
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
