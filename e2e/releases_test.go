package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// release is a row of docs/releases.md that names a commit.
type release struct {
	name, commit string
	level        uint64 // protocol level of its program
}

var releaseRow = regexp.MustCompile(`(?m)^\| *([^|]+?) *\| *([0-9a-f]{7,40}) *\|[^|]*\| *(\d+) *\|$`)

// releases returns the releases whose data must be readable, newest first. It skips a release whose commit is still
// pending, because that is this program.
func releases(t *testing.T) []release {
	t.Helper()
	page, err := os.ReadFile("../docs/releases.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []release
	for _, row := range releaseRow.FindAllSubmatch(page, -1) {
		level, err := strconv.ParseUint(string(row[3]), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s, protocol level %d", row[1], level)
		found = append(found, release{name: name, commit: string(row[2]), level: level})
	}
	return found
}

func TestReleasesAreInTheHistory(t *testing.T) {
	found := releases(t)
	if len(found) < 3 {
		t.Fatalf("docs/releases.md names %d commits, want at least 3", len(found))
	}
	if exec.Command("git", "rev-parse", "--is-shallow-repository").Run() != nil {
		t.Skip("NO HISTORY: the commits of docs/releases.md are not looked up")
	}
	for _, r := range found {
		err := exec.Command("git", "merge-base", "--is-ancestor", r.commit, "HEAD").Run()
		if err == nil {
			continue
		}
		if shallow, _ := exec.Command("git", "rev-parse", "--is-shallow-repository").Output(); string(
			shallow) == "true\n" {
			t.Logf("NO HISTORY: %s (%s) is not in this shallow clone", r.name, r.commit)
			continue
		}
		t.Errorf("%s: commit %s is not in the history", r.name, r.commit)
	}
}
