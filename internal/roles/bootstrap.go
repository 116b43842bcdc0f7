package roles

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// The time between two looks at peers that are not there yet: of the founder, and of the others.
const (
	bootstrapPause = 100 * time.Millisecond
	founderPause   = 2 * time.Second
)

// bootstrap founds the group where this master is the first of its peers, all of them are there, and all say that they are new. Then it
// makes the others part of the group, which they cannot be before: until then they take no raft connection. Each master that was made
// part of it does the same: the founder may be lost before it has come to all. It ends when every peer belongs to the group.
func (m *Master) bootstrap(ctx context.Context) error {
	peers := m.cfg.Peers
	if len(m.cfg.Join) > 0 {
		return nil
	}
	if len(peers) == 0 {
		peers = []string{m.url}
	}
	founder := peers[0] == m.url
	pause := founderPause
	if founder {
		pause = bootstrapPause
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	said := ""
	for {
		if m.store.Member().Group != "" && len(m.store.Founding()) == 0 {
			return nil // it joined, or the group was recovered: there is nobody left to come for
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

// bootstrapOnce founds the group where that is due, and comes for the peers that are new. It tells what is still missing, "" for nothing.
func (m *Master) bootstrapOnce(ctx context.Context, peers []string, founder bool) (obstacle string, err error) {
	members, obstacle := m.askPeers(ctx, peers)
	if m.store.Member().Group == "" && obstacle == "" {
		if !founder {
			return peers[0] + " has not founded the group yet", nil
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

// askPeers asks every peer who it is, and tells what keeps the group from being founded: a peer that is away, or not new.
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
			return nil, url + " belongs to group " + member.Group + " already: to take part in it, start this master with --join " + url
		}
		members = append(members, member)
	}
	return members, obstacle
}

// adoptPeers makes those peers part of the group that are new and that the founding named, and tells what is still missing.
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
			obstacle = peer.URL + " is not the master that was there when the group was founded; it must join"
		default:
			adoption := wire.Adoption{Group: group, Epoch: m.store.Member().Epoch, Member: peer.ID, Founding: m.store.Founding()}
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

// newGroup is the id of a group that is founded: random, so that no two have the same.
func newGroup() string { return "cs-" + strings.ToLower(rand.Text()[:12]) }
