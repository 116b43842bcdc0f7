package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// checkedNode is the part of the output of 'chainstore check --json' for one node that the tests use.
type checkedNode struct {
	Result   string         `json:"result"`
	Findings []wire.Finding `json:"findings"`
	Bad      []chain.Range  `json:"bad"`
	Aborted  *wire.Aborted  `json:"aborted"`
}

// TestCheckFindsDamageBesideAMisplacedFile replaces a file of a running node by a different kind of file, and flips a
// bit of a payload. It checks that 'chainstore check' reports both, and succeeds only after the byte is repaired.
func TestCheckFindsDamageBesideAMisplacedFile(t *testing.T) {
	c, o := startWithSegments(t)
	for i, row := range []struct {
		name, path, found string
		do                func(*disk)
	}{
		{"the index is a folder", "index", "folder", (*disk).indexIsAFolder},
		{"the index is a link to itself", "index", "symbolic link", (*disk).indexIsALoop},
		{"the tiles are a file", "tiles", "file", (*disk).tilesAreAFile},
		{"a tile is a pipe", "tiles/00", "pipe", (*disk).tileIsAPipe},
	} {
		t.Run(row.name, func(t *testing.T) {
			part := *c
			part.t = t
			c := &damaged{cluster: &part, name: c.storageNames()[i%3]}
			role := roleOf(c.Topology(), c.name)
			row.do(c.disk())
			var got checkedNode
			if err := json.Unmarshal(c.command(nil, "check", "--json", "--cluster", c.clusterFile(), role.URL()),
				&got); err != nil {
				t.Fatal(err)
			}
			misplaced := func(f wire.Finding) bool {
				m := f.DetailCoded
				return f.What == chain.WrongFile && m.Code == wire.CodeMovedAside && m.Args["path"] == row.path &&
					m.Args["found"] == row.found
			}
			flipped := func(f wire.Finding) bool { return f.What == chain.WrongPayload }
			if got.Result != "repaired" || len(got.Bad) > 0 || !slices.ContainsFunc(got.Findings, misplaced) ||
				!slices.ContainsFunc(got.Findings, flipped) {
				t.Errorf("%+v", got)
			}
			c.command(nil, "verify", "--data", role.Data) // fails if a byte is not repaired
		})
	}
	c.verify(o)
}

// TestCheckThatCannotBeDone makes a node's blocks unreadable. It checks that the command and its exit status report
// that the check was not done, that the check stays due, and that damage is found once the blocks are readable again.
func TestCheckThatCannotBeDone(t *testing.T) {
	c, o := startWithSegments(t)
	d := &damaged{cluster: c, name: "storage-2"}
	role := roleOf(c.Topology(), d.name)
	d.disk().inPayload()
	segments, away := filepath.Join(role.Data, "segments"), filepath.Join(role.Data, "..", "away")
	for _, err := range []error{os.Rename(segments, away), os.Symlink(away+"-not-mounted", segments)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	was := nodeAt(c.integrity(), role.URL())
	status, said := c.refusedBy("check", "--cluster", c.clusterFile(), role.URL())
	if status != 1 || !strings.Contains(said, "could not be checked to the end") ||
		!strings.Contains(said, "segments is a symbolic link") {
		t.Errorf("exit status %d, said\n%s", status, said)
	}
	if n := nodeAt(c.integrity(), role.URL()); n.State == "invalid" || n.Due == "" || n.Checked != was.Checked {
		t.Errorf("%+v, before %+v", n, was)
	}
	c.await("a notice that the checks end early", func() string {
		i := c.integrity()
		if slices.ContainsFunc(i.NoticesCoded, func(m wire.Message) bool { return m.Code == wire.CodeChecksEndEarly }) {
			return ""
		}
		return strings.Join(i.Notices, "; ")
	})
	for _, err := range []error{os.Remove(segments), os.Rename(away, segments)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	now := d.awaitHealed(c.integrity(), role.URL(), was)
	if !told(wire.Integrity{}, now, role.URL(), "finding") || !told(wire.Integrity{}, now, role.URL(), "repair") {
		t.Errorf("the integrity log: %+v", now.Events)
	}
	c.command(nil, "verify", "--data", role.Data)
	c.verify(o)
}
