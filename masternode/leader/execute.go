package leader

import (
	"context"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Timeouts of orders. Mining has none, because other miners work on the same block.
const (
	pingTimeout = 2 * time.Second
	putTimeout  = 30 * time.Second
)

// job is an action that is ready to run. It has everything that it needs and touches nothing of the loop. It may return
// a function that updates the memory.
type job func(ctx context.Context) (learn func(*memory, time.Time), err error)

// job prepares an action from the view and the memory that it was planned from.
func (l *leadership) job(a action, view masterfsm.View, m *memory) job {
	switch a.kind {
	case actCut:
		return l.propose(&masterfsm.Cut{Block: a.block, Time: l.Now()})
	case actMine:
		return l.mine(a, view)
	case actPut:
		return l.put(a, view, l.cfg.Workers.PutBlock)
	case actAcknowledge:
		return l.acknowledge(view, m)
	case actInvalidate:
		return l.invalidate(a, m)
	case actInbox:
		return l.put(a, view, l.cfg.Workers.PutInbox)
	case actBeginCheck:
		return l.propose(&masterfsm.BeginCheck{ID: a.node, Version: a.version, Time: l.Now()})
	case actCheck:
		return l.check(a, view, m)
	case actAbortCheck:
		return l.abortCheck(a, view, m)
	case actBeginRepair:
		return l.beginRepair(a, view, m, l.cfg.Clock())
	case actRepair:
		return l.repair(a, view, m)
	case actAbortRepair:
		return l.abortRepair(a, view)
	case actPingStorage:
		return l.pingStorage(a, view)
	case actPingMiner:
		return l.pingMiner(a, view)
	case actPingMaster:
		return l.pingMaster(a, view)
	case actMarkMiners:
		return l.markMiners(view, m)
	case actDropMiner:
		return l.dropMiner(a, view)
	case actPromote:
		return l.change(a, "master has caught up and votes", l.promote)
	case actDropMaster:
		return l.change(a, "removed master is out of the group", l.cfg.Membership.RemoveMember)
	case actFoundLog:
		return l.addLogKey(view, true)
	case actAddLogKey:
		return l.addLogKey(view, false)
	case actSealAgain:
		return l.sealAgain(view, m.seals.first)
	case actRaiseLevel:
		return l.raiseLevel()
	case actApprovals:
		on := true
		return l.propose(&masterfsm.ChangeSettings{
			Change: masterfsm.SettingsChange{ApproveWorkers: &on}, Time: l.Now(),
		})
	case actHandOver:
		return func(ctx context.Context) (func(*memory, time.Time), error) {
			_, err := l.handOver(ctx)
			return nil, err
		}
	case actCosign:
		return l.cosign(a, view, m)
	case actExpire:
		return l.propose(&masterfsm.ExpireAdmins{Time: l.Now()})
	case actEndIntent:
		return l.endIntent(a)
	case actReport:
		return l.commitReport(a, view, m)
	}
	return func(context.Context) (func(*memory, time.Time), error) {
		return nil, fmt.Errorf("unknown action %d", a.kind)
	}
}

func (l *leadership) propose(c masterfsm.Command) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		_, err := l.Propose(ctx, c)
		return nil, err
	}
}

func (l *leadership) mine(a action, view masterfsm.View) job {
	target := minerWorker(view.Miner(a.node))
	header := *view.Waiting
	order := wire.MineOrder{
		Block: header.Block, Inner: header.Inner(), Difficulty: header.Difficulty, Start: a.share.start(),
	}
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		nonce, err := l.cfg.Workers.Mine(ctx, target, l.order, order)
		if err != nil {
			return nil, err
		}
		if !chain.Mined(chain.BlockHash(order.Inner, nonce), order.Difficulty) {
			return nil, fmt.Errorf("miner %s answered with nonce %d, which does not mine block %d",
				a.node, nonce, a.block)
		}
		_, err = l.Propose(ctx, &masterfsm.Mined{Block: a.block, Nonce: nonce, Time: l.Now()})
		return answered(a.node), err
	}
}

// putFunc gives a block to a storage node, for its chain or its inbox.
type putFunc func(
	ctx context.Context, w wire.Worker, o wire.Order, number uint64, block []byte,
) (wire.StorageStatus, error)

// put gives a storage node one block of this master's state.
func (l *leadership) put(a action, view masterfsm.View, give putFunc) job {
	target := worker(view.Storage(a.node))
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		var block chain.Block
		var held bool
		l.cfg.Ledger.Read(func(s *masterfsm.State) { block, held = s.Block(a.block) })
		if !held {
			return nil, nil // dropped meanwhile
		}
		ctx, cancel := context.WithTimeout(ctx, putTimeout)
		defer cancel()
		status, err := give(ctx, target, l.order, a.block, block.Bytes())
		if err != nil {
			// Its height may differ from what the memory has, so its status is requested at once.
			return func(m *memory, _ time.Time) { m.node(a.node).tried = time.Time{} }, err
		}
		return l.learnStatus(a.node, status, view), nil
	}
}

// learnStatus compares a storage node's answer with the table and returns what the memory learns from it.
func (l *leadership) learnStatus(id string, status wire.StorageStatus, view masterfsm.View) func(*memory, time.Time) {
	var bad masterfsm.Cause
	n := view.Storage(id)
	if status.Height < n.Height {
		bad = masterfsm.Cause{Code: wire.CodeShortChain, Args: wire.Args{"blocks": status.Height, "height": n.Height}}
	}
	l.cfg.Ledger.Read(func(s *masterfsm.State) {
		if b, ok := s.BoundaryAt(status.Height); ok && b.Hash != status.Hash {
			bad = masterfsm.Cause{Code: wire.CodeOtherChain, Args: wire.Args{"block": status.Height - 1}}
		}
		if status.Height > s.Head().Height {
			args := wire.Args{"blocks": status.Height, "height": s.Head().Height}
			bad = masterfsm.Cause{Code: wire.CodeAhead, Args: args}
		}
	})
	return func(m *memory, now time.Time) {
		s := m.node(id)
		s.answered, s.notice = now, "" // an answer to a block is as good as one to a ping
		if s.version == 0 || s.height != status.Height {
			s.heightAt = now
		}
		s.version, s.height, s.bad, s.inbox = n.Version, status.Height, bad, status.Inbox.To
		s.disk, s.certificate = status.Disk, boundedCertificate(status.Certificate)
		s.secrets, s.tls, s.tlsBoot = nil, status.TLS, n.Boot
		if status.Secrets != nil {
			s.secrets = boundedSecrets(*status.Secrets)
		}
	}
}

func answered(id string) func(*memory, time.Time) {
	return func(m *memory, now time.Time) { m.node(id).answered, m.node(id).notice = now, "" }
}

// acknowledge commits the heights that nodes have answered with.
func (l *leadership) acknowledge(view masterfsm.View, m *memory) job {
	c := &masterfsm.Acknowledge{Time: l.Now()}
	for i := range view.Storages {
		n := &view.Storages[i]
		if s := m.nodes[n.ID]; s.matches(n) && s.bad.IsZero() && s.height > n.Height {
			c.Nodes = append(c.Nodes, masterfsm.NodeHeight{ID: n.ID, Version: n.Version, Height: s.height})
		}
	}
	return l.propose(c)
}

func (l *leadership) invalidate(a action, m *memory) job {
	cause := m.node(a.node).bad
	l.log.Error("storage node is invalid", "node", a.node, "because", cause.Text())
	return l.propose(&masterfsm.Invalidate{ID: a.node, Version: a.version, Cause: cause, Time: l.Now()})
}

func (l *leadership) pingStorage(a action, view masterfsm.View) job {
	target := worker(view.Storage(a.node))
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		status, err := l.cfg.Workers.StorageStatus(ctx, target, l.order)
		if err != nil {
			return nil, err
		}
		return l.learnStatus(a.node, status, view), nil
	}
}

func (l *leadership) pingMiner(a action, view masterfsm.View) job {
	target, boot := minerWorker(view.Miner(a.node)), view.Miner(a.node).Boot
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		status, err := l.cfg.Workers.MinerStatus(ctx, target, l.order)
		if err != nil {
			return nil, err
		}
		return func(m *memory, now time.Time) {
			s := m.node(a.node)
			s.answered, s.told, s.certificate = now, now, boundedCertificate(status.Certificate)
			s.secrets, s.tls, s.tlsBoot = boundedSecrets(status.Secrets), status.TLS, boot
		}, nil
	}
}

// markMiners commits which miners are dead, and which answer again.
func (l *leadership) markMiners(view masterfsm.View, m *memory) job {
	c, now := &masterfsm.MarkMiners{Time: l.Now(), Age: l.age()}, l.cfg.Clock()
	for i := range view.Miners {
		if mark, due := m.mark(&view.Miners[i], now, l.pace); due {
			c.Miners = append(c.Miners, mark)
		}
	}
	commit := l.propose(c)
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		learn, err := commit(ctx)
		for _, mark := range c.Miners {
			if err == nil {
				l.log.Info("miner marked", "id", mark.ID, "dead", mark.Dead)
			}
		}
		return learn, err
	}
}

// dropMiner removes a miner that has been dead for long. If it comes back, it registers again.
func (l *leadership) dropMiner(a action, view masterfsm.View) job {
	miner := view.Miner(a.node)
	remove := l.propose(&masterfsm.RemoveMiner{ID: a.node, Expired: true, Time: l.Now(), Age: l.age()})
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		learn, err := remove(ctx)
		if err == nil {
			l.log.Warn("miner removed, because it has not answered for a day", "id", miner.ID, "url", miner.URL)
		}
		return learn, err
	}
}

// nearlyAll is how many log entries a master may lack to get a vote: those that are on their way.
const nearlyAll = 256

func (l *leadership) pingMaster(a action, view masterfsm.View) job {
	url := view.Master(a.node).URL
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		had := l.cfg.Membership.Member().Applied
		member, at, err := l.askMember(ctx, url)
		if err != nil {
			return nil, err
		}
		same := member.ID == a.node && member.Group == l.cfg.Membership.Member().Group
		if same {
			l.cfg.OnMember(member)
		}
		joining := member.ID == a.node && member.Group == "" // it was admitted, and does not know that yet
		return func(m *memory, now time.Time) {
			s := m.node(a.node)
			s.answered, s.caughtUp, s.knowsKeys, s.level = now, same && member.Applied+nearlyAll >= had, false, 0
			s.isMember = same
			s.clock, s.disk, s.flags, s.certificate, s.secrets = 0, wire.Disk{}, wire.AccessFlags{}, nil, nil
			s.tls, s.atRest = nil, nil
			switch {
			case same:
				s.disk, s.flags, s.atRest = member.Disk, member.Flags, boundedAtRest(member.AtRest)
				s.certificate, s.secrets = boundedCertificate(member.Certificate), boundedSecrets(member.Secrets)
				s.readClock(member.Time, at)
				s.tls = member.TLS
				s.knowsKeys, s.level = member.KnowsLogKeys(), member.Level
			case !joining:
				s.notice = wire.CodeOtherNodeAtURL
			}
		}, nil
	}
}

// change promotes or removes a member.
func (l *leadership) change(a action, what string, do func(context.Context, string) error) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		l.cfg.Changing.Lock()
		defer l.cfg.Changing.Unlock()
		err := do(ctx, a.node)
		if err == nil {
			l.log.Info(what, "id", a.node)
		}
		return nil, err
	}
}

func worker(n masterfsm.Storage) wire.Worker { return n.Worker() }

func minerWorker(m masterfsm.Miner) wire.Worker { return m.Worker() }
