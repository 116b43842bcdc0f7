package e2e

import (
	"path/filepath"
	"testing"
)

// TestShort is the end-to-end run of `make test`. It runs one cluster under load, kills the leader, damages a storage
// node, which is repaired, and replaces the folder of a follower by an older copy. It ends with the full verifier.
func TestShort(t *testing.T) {
	c, o := startSmallSegments(t), newOracle()
	c.expectDamage = true
	l := c.startLoad(o)
	l.more(4 * some)
	c.awaitSegments(4)

	leader := c.leader("")
	c.kill(leader)
	c.leader(leader)
	l.more(some / 2)
	c.launch(leader)
	c.awaitComplete(3)

	(&damaged{cluster: c, name: "storage-1"}).suffer(damages[0], false, "")
	l.more(some / 2)
	l.end()

	c.restoreFollower(o, filepath.Join(c.dir, "saved"))
	c.verify(o)
}

// restoreFollower replaces the folder of a follower by an older copy, which it keeps in the folder saved. The follower
// must be refused until it has joined with an empty folder.
func (c *cluster) restoreFollower(o *oracle, saved string) {
	c.t.Helper()
	c.awaitLevel()
	name := c.followers(c.leader(""))[0]
	role := roleOf(c.Topology(), name)
	stop := func() {
		c.t.Helper()
		if err := c.StopRole(name); err != nil && !terminated(err) {
			c.t.Fatal(err)
		}
	}
	stop()
	c.copyFolder(role.Data, saved)
	c.launch(name)
	c.awaitComplete(3)
	c.appendEach(o, "after the copy "+filepath.Base(saved), 10, c.client(role.URL()))
	stop()
	c.putBack(role, saved)
	c.launch(name)
	c.awaitMasterRefused(role)
	stop()
	c.rejoin(name)
	c.awaitVoters(c.File().Masters...)
	c.awaitComplete(3)
}
