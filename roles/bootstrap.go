package roles

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/chainstore/chainstore/httpapi/wire"
)

// bootstrapPause is the time between two looks at peers that are not there yet.
const bootstrapPause = 100 * time.Millisecond

// bootstrap founds the group where this master is the first of its peers, all of them are there, and all say that they are new.
// Then it makes the others part of the group, which they cannot be before: until then they take no raft connection. It ends
// when every peer belongs to the group, and does nothing on masters other than the first.
func (m *Master) bootstrap(ctx context.Context) error {
	peers := m.cfg.Peers
	if len(m.cfg.Join) > 0 {
		return nil
	}
	if len(peers) == 0 {
		peers = []string{m.url}
	}
	if peers[0] != m.url {
		return m.awaitFounder(ctx, peers)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		members, obstacle := m.askPeers(ctx, peers)
		if m.store.Member().Group == "" && obstacle == "" {
			group := "cs-" + strings.ToLower(rand.Text()[:12])
			if err := m.store.Found(group, members); err != nil {
				return err
			}
			m.cfg.Logger.Info("group founded", "group", group, "masters", len(members))
		}
		if group := m.store.Member().Group; group != "" {
			if obstacle = m.adoptPeers(ctx, group, members); obstacle == "" {
				return nil
			}
		}
		if obstacle != said && obstacle != "" && ctx.Err() == nil {
			m.cfg.Logger.Info("waiting for the other masters", "because", obstacle)
			said = obstacle
		}
		timer.Reset(bootstrapPause)
	}
}

// founderPause is the time between two looks at the peers of a master that waits to be made part of a group.
const founderPause = 2 * time.Second

// awaitFounder says what a new master waits for that is not the first of its peers, until it is part of a group.
func (m *Master) awaitFounder(ctx context.Context, peers []string) error {
	tick := time.NewTicker(founderPause)
	defer tick.Stop()
	said := ""
	for m.store.Member().Group == "" {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if m.store.Member().Group != "" {
			return nil
		}
		_, obstacle := m.askPeers(ctx, peers)
		if obstacle == "" {
			obstacle = peers[0] + " has not founded the group yet"
		}
		if obstacle != said && ctx.Err() == nil {
			m.cfg.Logger.Info("waiting to be made part of a group", "because", obstacle)
			said = obstacle
		}
	}
	return nil
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
