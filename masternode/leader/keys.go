package leader

import (
	"context"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
)

// addLogKey adds the log's first key, or the key that this master was given. If another leader was quicker, its first
// key stays.
func (l *leadership) addLogKey(view masterfsm.View, first bool) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		key, err := l.cfg.Log.FirstKey(view.Group)
		if err == nil {
			_, err = l.AddLogKey(ctx, key, view.Group.ID, first)
		}
		return nil, err
	}
}

// AddLogKey seals a key and commits it.
func (l *Leader) AddLogKey(ctx context.Context, key *signing.Key, group string, first bool) (*masterfsm.LogKey, error) {
	sealed, err := l.cfg.Log.Sealer(group).Seal(key)
	if err != nil {
		return nil, err
	}
	added, err := ProposeFor[*masterfsm.LogKey](ctx, l, &masterfsm.AddLogKey{
		Origin: key.Origin(), Public: key.Public(), Sealed: sealed, First: first, Time: l.Now(),
	})
	if err == nil {
		l.log.Info("the log has a key that signs", "key", key.VerifierKey(), "first", first)
	}
	return added, err
}

// sealAgain seals the signing keys that open here, and are not sealed under the present value of the secret, under that
// value. [masterfsm.AddLogKey] replaces the sealed part of a key that the table has.
func (l *leadership) sealAgain(view masterfsm.View) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		sealer, keys := l.cfg.Log.Sealer(view.Group.ID), view.Log.Signing()
		for i := range keys {
			if sealer.SealedUnderFirst(view.Log.Origin, &keys[i]) {
				continue
			}
			key, err := sealer.Open(view.Log.Origin, &keys[i])
			if err != nil {
				continue // the status says so
			}
			sealed, err := sealer.Seal(key)
			if err != nil {
				return nil, err
			}
			if _, err := ProposeFor[*masterfsm.LogKey](ctx, l.Leader, &masterfsm.AddLogKey{
				Origin: key.Origin(), Public: key.Public(), Sealed: sealed, Time: l.Now(),
			}); err != nil {
				return nil, err
			}
			l.log.Info("a key of the log is sealed under the new value of its secret", "key", key.VerifierKey())
		}
		return nil, nil
	}
}
