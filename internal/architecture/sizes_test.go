package architecture

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

const (
	// filesEach is the number of files, tests excluded, that a package may have.
	filesEach = 20
	// linesEach is the number of lines that a file may have, tests excluded.
	linesEach = 600
)

// TestSizes checks how many files a package has and how long they are. A package above the limit is split.
func TestSizes(t *testing.T) {
	files := map[string]int{}
	for _, s := range readSources(t) {
		files[filepath.ToSlash(filepath.Dir(s.path))]++
		text, err := os.ReadFile(filepath.Join("..", "..", s.path))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n > linesEach {
			t.Errorf("%s has %d lines, and may have %d", s.path, n, linesEach)
		}
	}
	for folder, n := range files {
		if n > filesEach {
			t.Errorf("%s has %d files, and may have %d", folder, n, filesEach)
		}
	}
}
