package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// edit changes one place of the sources: the text must be there exactly once, so that an edit cannot come to nothing unnoticed.
type edit struct{ file, old, new string }

// variant builds the program with edits, which nothing in the sources knows of: the sources stay as they are. It tells the path of the
// executable.
func variant(t *testing.T, name string, edits ...edit) string {
	t.Helper()
	out, err := buildVariant(t.TempDir(), name, edits)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// buildVariant is variant in a folder.
func buildVariant(dir, name string, edits []edit) (string, error) {
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, e := range edits {
		path, err := filepath.Abs(filepath.Join("..", filepath.FromSlash(e.file)))
		if err != nil {
			return "", err
		}
		from := path
		if edited, ok := overlay.Replace[path]; ok {
			from = edited
		}
		source, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(source), e.old); n != 1 {
			return "", fmt.Errorf("variant %s: %s has %d places like %q, not one", name, e.file, n, e.old)
		}
		edited := filepath.Join(dir, strings.Repeat("x", i)+filepath.Base(path))
		if err := os.WriteFile(edited, []byte(strings.Replace(string(source), e.old, e.new, 1)), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[path] = edited
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	file, out := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "chainstore-"+name)
	if err := os.WriteFile(file, list, 0o600); err != nil {
		return "", err
	}
	args := []string{"build", "-overlay", file, "-o", out}
	if underRace {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "../cmd/chainstore")...)
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("variant %s: %w\n%s", name, err, text)
	}
	return out, nil
}

// quickRecovery builds the program once for all tests of recoveries: one that need not wait for a minute.
var quickRecovery = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp(os.Getenv(clockEnv), "recovery-")
	if err != nil {
		return "", err
	}
	return buildVariant(dir, "recovery", []edit{{"wire/node.go", "RecoveryQuiet = time.Minute",
		"RecoveryQuiet = 5 * time.Second"}})
})

// withQuickRecovery has the cluster and its commands run the program that quickRecovery builds.
func (c *cluster) withQuickRecovery() {
	c.t.Helper()
	var err error
	if c.program, err = quickRecovery(); err != nil {
		c.t.Fatal(err)
	}
}

// clockEnv names the folder in which each process of the variant below finds a file of its pid: by how many milliseconds its wall clock is wrong.
const clockEnv = "E2E_CLOCKS"

// settableClock is the program with a wall clock that jumps when it is told to. Its monotonic clock goes on as it is.
func settableClock() []edit {
	return []edit{{
		"masternode/leader/propose.go",
		"func (l *Leader) Now() uint64 { return uint64(l.cfg.Clock().UnixMilli()) }",
		`func (l *Leader) Now() uint64 {
	text, _ := os.ReadFile(os.Getenv("` + clockEnv + `") + "/" + strconv.Itoa(os.Getpid()))
	wrong, _ := strconv.ParseInt(string(text), 10, 64)
	return uint64(l.cfg.Clock().UnixMilli() + wrong)
}`,
	}, {
		"masternode/leader/propose.go",
		"import (\n", "import (\n\t\"os\"\n\t\"strconv\"\n",
	}}
}
