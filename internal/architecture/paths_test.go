package architecture

import (
	"io/fs"
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

// TestEndToEndFilesAreListed checks that e2e/README.md lists each file of e2e, without .go and _test, and no other.
func TestEndToEndFilesAreListed(t *testing.T) {
	root := filepath.Join("..", "..", "e2e")
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "\n## Files\n")
	list, _, _ = strings.Cut(list, "\n## ")
	listed := map[string]bool{}
	for _, entry := range regexp.MustCompile("(?m)^- ((?:`[^`]+`,?\\s*)+):").FindAllStringSubmatch(list, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(entry[1], -1) {
			listed[name[1]] = true
		}
	}
	err = fs.WalkDir(os.DirFS(root), ".", func(file string, entry fs.DirEntry, err error) error {
		name, isGo := strings.CutSuffix(file, ".go")
		if err != nil || !isGo || path.Base(file) == "doc.go" {
			return err
		}
		name = strings.TrimSuffix(name, "_test")
		if !listed[name] {
			t.Errorf("e2e/README.md does not list %s", file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range listed {
		file := filepath.Join(root, filepath.FromSlash(name))
		_, err := os.Stat(file + "_test.go")
		if _, other := os.Stat(file + ".go"); err != nil && other != nil {
			t.Errorf("e2e/README.md lists %s: %v", name, err)
		}
	}
}

// TestFaultsNameTests checks that the tests and fuzz targets that docs/faults.md names exist.
func TestFaultsNameTests(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "faults.md"))
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		source, err := os.ReadFile(file)
		for _, m := range declared.FindAllSubmatch(source, -1) {
			exists[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(text, -1) {
		if name := string(m[1]); !exists[name] {
			t.Errorf("docs/faults.md names %s, which does not exist", name)
		}
	}
}
