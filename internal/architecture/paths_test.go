package architecture

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAnswersNameFiles checks that each file named in the answers of CONTRIBUTING.md exists. A name without a folder is
// in the folder of the file named before it.
func TestAnswersNameFiles(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, answers, found := strings.Cut(string(text), "<summary>Answers</summary>")
	if !found {
		t.Fatal("CONTRIBUTING.md has no answers")
	}
	folder, named := "", 0
	for _, match := range regexp.MustCompile("`([^`]+\\.(?:go|js))`").FindAllStringSubmatch(answers, -1) {
		name := match[1]
		if strings.Contains(name, "/") {
			folder = path.Dir(name)
		} else {
			name = path.Join(folder, name)
		}
		if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(name))); err != nil {
			t.Errorf("CONTRIBUTING.md names %s: %v", name, err)
		}
		named++
	}
	if named < 20 {
		t.Errorf("the answers name %d files, and there are twenty questions", named)
	}
}
