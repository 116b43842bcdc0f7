package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// edit changes one place of the sources: the text must be there exactly once, so that an edit cannot come to nothing unnoticed.
type edit struct{ file, old, new string }

// variant builds the program with edits, which nothing in the sources knows of: the sources stay as they are. It tells the path of the
// executable.
func variant(t *testing.T, name string, edits ...edit) string {
	t.Helper()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, e := range edits {
		path, err := filepath.Abs(filepath.Join("..", filepath.FromSlash(e.file)))
		if err != nil {
			t.Fatal(err)
		}
		from := path
		if edited, ok := overlay.Replace[path]; ok {
			from = edited
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), e.old); n != 1 {
			t.Fatalf("variant %s: %s has %d places like %q, not one", name, e.file, n, e.old)
		}
		edited := filepath.Join(dir, strings.Repeat("x", i)+filepath.Base(path))
		if err := os.WriteFile(edited, []byte(strings.Replace(string(source), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = edited
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file, out := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "chainstore-"+name)
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"build", "-overlay", file, "-o", out}
	if underRace {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "../cmd/chainstore")...)
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("variant %s: %v\n%s", name, err, text)
	}
	return out
}

// clockEnv names the folder in which each process of the variant below finds a file of its pid: by how many milliseconds its wall clock is wrong.
const clockEnv = "E2E_CLOCKS"

// settableClock is the program with a wall clock that jumps when it is told to. Its monotonic clock goes on as it is.
func settableClock() []edit {
	return []edit{{
		"masternode/deliver.go",
		"func (n *Node) now() uint64 { return uint64(n.cfg.Clock().UnixMilli()) }",
		`func (n *Node) now() uint64 {
	text, _ := os.ReadFile(os.Getenv("` + clockEnv + `") + "/" + strconv.Itoa(os.Getpid()))
	wrong, _ := strconv.ParseInt(string(text), 10, 64)
	return uint64(n.cfg.Clock().UnixMilli() + wrong)
}`,
	}, {
		"masternode/deliver.go",
		"import (\n", "import (\n\t\"os\"\n\t\"strconv\"\n",
	}}
}
