package roles

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
)

// Time between two rounds of asking the peers, for the founder and for the other masters.
const (
	bootstrapPause = 100 * time.Millisecond
	founderPause   = 2 * time.Second
)

// bootstrap founds the group if this master is the founder, all of its peers answer, and all are new. The founder is
// the peer with the lowest URL: lists in another order must not found two groups. Then it makes the others part of the
// group; before that they accept no raft connection. Each master that became part of the group does the same, since the
// founder may fail before it has reached all of them. It ends when every peer belongs to the group.
func (m *Master) bootstrap(ctx context.Context) error {
	peers := m.cfg.Peers
	if len(m.cfg.Join) > 0 {
		return nil
	}
	if len(peers) == 0 {
		peers = []string{m.url}
	}
	founder := founderOf(peers) == m.url
	pause := founderPause
	if founder {
		pause = bootstrapPause
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	said := ""
	for {
		if m.store.Member().Group != "" && len(m.store.Founding()) == 0 {
			return nil // it joined, or the group was recovered: no peer is left to adopt
		}
		obstacle, err := m.bootstrapOnce(ctx, peers, founder)
		if err != nil || obstacle == "" {
			return err
		}
		if obstacle != said && ctx.Err() == nil {
			m.cfg.Logger.Info("not all masters are part of the group yet", "because", obstacle)
			said = obstacle
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// bootstrapOnce founds the group if that is due, and adopts the peers that are new. It returns what is still missing,
// "" for nothing.
func (m *Master) bootstrapOnce(ctx context.Context, peers []string, founder bool) (obstacle string, err error) {
	members, obstacle := m.askPeers(ctx, peers)
	if m.store.Member().Group == "" && obstacle == "" {
		if !founder {
			return slices.Min(peers) + " has not founded the group yet", nil
		}
		if obstacle := wrongClock(m.node.Member(), members); obstacle != "" {
			return obstacle, nil
		}
		group := newGroup()
		if err := m.store.Found(group, members); err != nil {
			return "", err
		}
		m.cfg.Logger.Info("group founded", "group", group, "masters", len(members))
	}
	if group := m.store.Member().Group; group != "" {
		obstacle = m.adoptPeers(ctx, group, members)
	}
	return obstacle, nil
}

// wrongClock returns what is wrong with the founder's clock, compared with those of its peers, or "". The founder gives
// the group its first time, which never runs backwards.
func wrongClock(founder wire.Member, members []wire.Member) (obstacle string) {
	var others []uint64
	for i := range members {
		if members[i].ID != founder.ID {
			others = append(others, members[i].Time)
		}
	}
	switch by := leader.WrongBy(founder.Time, others).Round(time.Second); {
	case by > 0:
		return fmt.Sprintf("the clock of this machine is %v ahead of the clocks of the other masters: set it", by)
	case by < 0:
		return fmt.Sprintf("the clock of this machine is %v behind the clocks of the other masters: set it", -by)
	}
	return ""
}

// askPeers asks every peer for its identity. It returns what prevents the founding of the group: a peer that does not
// answer, or is not new.
func (m *Master) askPeers(ctx context.Context, peers []string) (members []wire.Member, obstacle string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, url := range peers {
		if url == m.url {
			members = append(members, m.store.Member())
			continue
		}
		member, err := m.masters.Member(ctx, url)
		switch {
		case err != nil:
			obstacle = url + " does not answer: " + err.Error()
			continue
		case member.Group != "" && m.store.Member().Group == "":
			return nil, fmt.Sprintf("%s already belongs to group %s: if the group does not add this master within a "+
				"minute, start it with --join %s and a join ticket", url, member.Group, url)
		}
		if other := member.Founder; m.store.Member().Group == "" && other != "" && other != founderOf(peers) {
			return nil, fmt.Sprintf("%s expects %s to found the group, this master expects %s: give all masters "+
				"the same URLs in --peers", url, other, founderOf(peers))
		}
		member.Founder, member.Key = "", "" // they are only in answers: older versions refuse a member with them
		members = append(members, member)
	}
	return members, obstacle
}

// founderOf returns which of the peers founds the group, "" for no peers: the one with the lowest URL, so that the
// order of a list does not matter.
func founderOf(peers []string) string {
	if len(peers) == 0 {
		return ""
	}
	return slices.Min(peers)
}

// adoptPeers makes those peers part of the group that are new and were named when it was founded. It returns what is
// still missing.
func (m *Master) adoptPeers(ctx context.Context, group string, peers []wire.Member) (obstacle string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	missing := map[string]bool{}
	for _, member := range m.store.Members() {
		missing[member.ID] = member.ID != m.store.Member().ID
	}
	for _, peer := range peers {
		switch {
		case peer.ID == m.store.Member().ID:
		case peer.Group == group:
			missing[peer.ID] = false
		case peer.Group != "":
			obstacle = peer.URL + " belongs to another group, " + peer.Group
		case !missing[peer.ID]:
			obstacle = peer.URL + " is not the master with which the group was founded; it must join"
		default:
			adoption := wire.Adoption{
				Group: group, Epoch: m.store.Member().Epoch, Member: peer.ID, Founding: m.store.Founding(),
			}
			if err := m.masters.Adopt(ctx, peer.URL, adoption); err != nil {
				obstacle = peer.URL + " cannot be made part of the group: " + err.Error()
				continue
			}
			missing[peer.ID] = false
		}
	}
	for id, away := range missing {
		if away && obstacle == "" {
			obstacle = "master " + id + " does not answer"
		}
	}
	return obstacle
}

// newGroup returns the id of a new group. It is random, so that no two groups have the same.
func newGroup() string { return "cs-" + strings.ToLower(rand.Text()[:12]) }
