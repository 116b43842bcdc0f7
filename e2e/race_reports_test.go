package e2e

import (
	"os"
	"strings"
	"testing"
)

// raceMark begins a report of the race detector, raceEnd is the line before and after it.
const raceMark, raceEnd = "WARNING: DATA RACE", "=================="

// knownRace is a race in hashicorp/raft v1.7.3 when a member moves to another address: startStopReplication writes
// followerReplication.peer under its lock, and updateLastAppended reads the id in it without the lock
// (replication.go:660). The id does not change, only the address next to it does.
var knownRace = []string{"raft.updateLastAppended()", "raft.(*Raft).startStopReplication()"}

// racesIn returns the reports of the race detector in a log, except for the known one. The exit status of the processes
// under test does not report races (see TestMain), so that the known one does not count.
func racesIn(log string) (reports []string) {
	for _, part := range strings.Split(log, raceMark)[1:] {
		report, _, _ := strings.Cut(part, raceEnd)
		known := true
		for _, frame := range knownRace {
			known = known && strings.Contains(report, frame)
		}
		if !known {
			reports = append(reports, raceMark+report)
		}
	}
	return reports
}

// checkRaces fails the test if the race detector found races in its processes.
func (c *cluster) checkRaces() {
	for _, path := range c.logs() {
		data, err := os.ReadFile(path)
		if err != nil {
			c.t.Error(err)
			continue
		}
		for _, report := range racesIn(string(data)) {
			c.t.Errorf("%s: %.3000s", path, report)
		}
	}
}

func TestRacesIn(t *testing.T) {
	ours := raceMark + "\nWrite at 1 by goroutine 2:\n  masternode.(*Node).x()\n"
	theirs := raceMark + "\nRead at 1 by goroutine 2:\n  github.com/hashicorp/raft.updateLastAppended()\nPrevious " +
		"write:\n  github.com/hashicorp/raft.(*Raft).startStopReplication()\n"
	log := "a line\n" + raceEnd + "\n" + theirs + raceEnd + "\nanother\n" + raceEnd + "\n" + ours + raceEnd + "\n"
	if found := racesIn(log); len(found) != 1 || !strings.Contains(found[0], "masternode") {
		t.Errorf("%q", found)
	}
	if found := racesIn("nothing"); len(found) != 0 {
		t.Errorf("%q", found)
	}
}
