//go:build ignore

// Command lines reports lines that are too long: over 120 columns in Go, JavaScript and CSS, over 100 in Markdown.
// A tab is four columns. A line that cannot be broken, such as a URL alone, may be longer.
//
//	go run .ci/lines.go
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

var limits = map[string]int{".go": 120, ".js": 120, ".css": 120, ".md": 100}

func main() {
	found := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if skipped(path, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		limit, ok := limits[filepath.Ext(path)]
		if !ok {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found += check(path, content, limit)
		return nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "lines:", err)
		os.Exit(2)
	}
	if found > 0 {
		fmt.Printf("%d lines are too long\n", found)
		os.Exit(1)
	}
}

// skipped reports whether a folder has no files that people write.
func skipped(path, name string) bool {
	return name == ".git" || name == "testdata" || name == "node_modules" ||
		path != "." && strings.HasSuffix(name, "-data")
}

// check prints the long lines of one file, and returns their number.
func check(path string, content []byte, limit int) int {
	found, number := 0, 0
	for line := range bytes.Lines(content) {
		number++
		text := strings.ReplaceAll(strings.TrimRight(string(line), "\r\n"), "\t", "    ")
		columns := utf8.RuneCountInString(text)
		if columns <= limit || !breakable(text) {
			continue
		}
		found++
		fmt.Printf("%s:%d: %d columns, the limit is %d\n", path, number, columns, limit)
	}
	return found
}

// breakable reports whether a line has a space to break it at, after the marks of a comment or a list.
func breakable(text string) bool {
	return len(strings.Fields(strings.TrimLeft(text, " /*-#>"))) > 1
}
