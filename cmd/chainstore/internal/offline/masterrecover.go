package offline

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/roles"
)

// NewMasterRecover replaces a lost majority.
func NewMasterRecover() *cobra.Command {
	var cfg roles.RecoverConfig
	var clusterTokenFile, recoveryFile string
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Replace a majority of masters that is lost permanently",
		Long: `Replace a majority of masters that is lost permanently. If a majority can come back, bring it back
instead: then nothing is lost.

With the data folder of a surviving master that is stopped, that master becomes the whole group. If several survived,
use the one whose log ends in the highest term, and of these the one with the highest entry. The command shows both
before it asks.

With --from-storage and an empty folder, a new group is created from the storage nodes' chain. Name all storage nodes.
Blocks that only an unnamed node has are lost, and an unnamed node that has seen a higher epoch refuses the new
master.

A group that is still running must not be replaced: two groups would acknowledge different records at one position.
The command therefore asks first, and changes nothing if it finds a running group. Every other master of the table
must be stopped and named with --dead. A master that answers is not dead. A majority of the table's storage nodes must
run, and none of them may have received an order from a leader for a minute; the command waits for that. They store
the new epoch before the folder is changed, and from then on refuse the old masters. If the recovery is interrupted,
run it again. A storage node that meanwhile ran an older version may not know the last leader: the command then asks
for --resume-recovery EPOCH.

Name storage nodes that are gone, or that were replaced at their URL by one with an empty disk, with --without: blocks
that only they have are lost. If a majority of them is destroyed, add --storage-majority-lost. Then the command cannot
verify that the old group does not run with the unreachable nodes, and relies on you.

In both cases the highest chain of the storage nodes is adopted first, and each of its blocks is verified.

Records that the lost masters acknowledged are lost if they are neither in the survivor's log nor in a block of a
storage node, and so are idempotency keys that the survivor does not know. With --from-storage every record that is
not in a block of those nodes is lost, and so are all keys and settings. Projects are restored as private, with the
name recovered-ID and without tokens: 'chainstore project token create' creates new ones. The log then has no key:
start the master with --checkpoint-key and the file that 'chainstore log backup' wrote. No signature on that chain is
checked, and that key signs all of it. If the nodes were made from an export, first check the file with 'chainstore
verify --file FILE --key KEY'.

The log must not continue under its keys if blocks that it has signed may be gone, because a storage node is left out,
is not named or lost its disk. The keys would sign a second log in place of the first, and anyone with a checkpoint of
the first could prove it. In that case recover a survivor with --new-log-key, and start a group from storage without
--checkpoint-key: the log gets a new key, and a new name unless --origin sets the old one. See docs/masters.md.

--undo-recovery undoes a mistaken recovery, with the folder of a master of the group that it replaced. The records of
this folder win. Blocks that contradict them are moved to the storage nodes' quarantine, and records that the mistaken
group acknowledged in them are lost.

--rehearsal makes a separate group from a COPY of a folder, with a new id, no masters, no workers and a new log, under
its own cluster token. The nodes of the copied group are not contacted. --from-storage may name storage nodes of the
rehearsal, made with 'chainstore import --rehearsal'.

Afterwards start the master as before, and add other masters with 'chainstore master --join'.`,
		Example: `  chainstore master recover --data /var/lib/chainstore --raft 127.0.0.1:8010 \
    --cluster-token-file cluster.token --dead http://127.0.0.1:8001 --dead http://127.0.0.1:8002
  chainstore master recover --data /var/lib/new --raft 127.0.0.1:8010 --cluster-token-file cluster.token \
    --from-storage http://127.0.0.1:8081,http://127.0.0.1:8082
  chainstore master recover --rehearsal --data /var/lib/copy --raft 127.0.0.1:8010 \
    --cluster-token-file rehearsal.token`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cfg.Data == "" {
				return errors.New("name the folder of the surviving master, or an empty folder, with --data")
			}
			cfg.Secret, err = cli.ReadValues(cmp.Or(recoveryFile, clusterTokenFile), cli.EnvClusterToken)
			if err != nil {
				return err
			}
			bar := render.NewBar(cmd.ErrOrStderr(), "adopt", "blocks")
			cfg.Progress = func(done, total uint64) { bar.Set(int64(done), int64(total)) }
			waiting := render.NewBar(cmd.ErrOrStderr(), "wait until no leader has sent an order for long enough", "s")
			warned := false
			cfg.Waiting = func(w roles.Waiting) {
				if !warned {
					warned = true
					fmt.Fprintln(cmd.ErrOrStderr(), waitingText(w))
				}
				waiting.Set(int64(w.Since/time.Second), int64(w.Need/time.Second))
			}
			cfg.Confirm = func(r roles.Recovery) error {
				waiting.Done()
				return confirmRecovery(cmd, r, yes)
			}
			cfg.Logger = hclog.New(&hclog.LoggerOptions{Name: "recover", Level: hclog.Warn, Output: cmd.ErrOrStderr()})
			done, err := roles.RecoverMaster(cmd.Context(), cfg)
			waiting.Done()
			bar.Done()
			if err != nil {
				return err
			}
			return render.Print(cmd.OutOrStdout(), asJSON, done, recoveredText(done))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Data, "data", "", "data `folder` of the master")
	flags.StringVar(&cfg.Raft, "raft", "127.0.0.1:8010", "`address` of its raft port after the recovery")
	cli.AddClusterToken(flags, &clusterTokenFile)
	addAtRestKeys(cmd, &cfg.AtRestKeys, atRestUsage)
	flags.StringVar(&recoveryFile, "recovery-secret-file", "", "`file` with the secret for recoveries, if the storage "+
		"nodes have one of its own")
	flags.BoolVar(&cfg.OlderNodes, "older-nodes", false, "send the cluster token to storage nodes of versions that "+
		"cannot prove it without sending it")
	flags.StringVar(&cfg.TLS.Cert, "tls-cert", "", "`file` with the certificate of the master, if the cluster has TLS")
	flags.StringVar(&cfg.TLS.Key, "tls-key", "", "`file` with its private key")
	flags.StringVar(&cfg.TLS.CA, "tls-ca", "", "`file` with the authorities whose nodes are trusted")
	flags.StringSliceVar(&cfg.FromStorage, "from-storage", nil,
		"`URLs` of all storage nodes if no master survived, or of those of a rehearsal")
	flags.StringSliceVar(&cfg.Without, "without", nil,
		"ids or `URLs` of storage nodes that are gone: blocks that only they have are lost")
	flags.BoolVar(&cfg.StorageLost, "storage-majority-lost", false, "continue although the storage nodes that "+
		"are not left out are no majority: the others are destroyed")
	flags.StringSliceVar(&cfg.Dead, "dead", nil,
		"ids or `URLs` of the other masters, all of them: they are stopped and never start again")
	flags.BoolVar(&cfg.UndoRecovery, "undo-recovery", false, "undo a mistaken recovery: the records of this "+
		"folder win")
	flags.Uint64Var(&cfg.ResumeRecovery, "resume-recovery", 0, "the recovery to this `epoch` was interrupted: "+
		"no master was ever started after it")
	flags.BoolVar(&cfg.Rehearsal, "rehearsal", false, "make a separate group from a copy of a folder; the nodes "+
		"of the copied group are not contacted")
	flags.BoolVar(&cfg.NewLogKey, "new-log-key", false,
		"leave out the log's name and keys: blocks that they have signed may be gone")
	flags.BoolVar(&cfg.AfterFailedSync, "after-failed-sync", false, "use the folder although a sync of it failed "+
		"since the machine was started: it may lack what the log shows")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	cli.AddJSON(cmd, &asJSON, "print what was done as one JSON object")
	cli.MustComplete(cmd.MarkFlagDirname("data"))
	return cmd
}

// waitingText explains why a recovery waits.
func waitingText(w roles.Waiting) string {
	why := "was started recently and does not know of earlier orders"
	if w.Ordered {
		why = "had a recent order from a leader"
	}
	return fmt.Sprintf("Storage node %s %s. It must have been without one for %v: waiting.", w.Node, why, w.Need)
}

// errNotConfirmed is returned if the operator did not answer yes.
var errNotConfirmed = errors.New("not confirmed: nothing was changed")

// warning is the text that an operator confirms, a line for each fact.
type warning struct{ strings.Builder }

// say adds a line if it applies.
func (w *warning) say(applies bool, format string, args ...any) {
	if applies {
		fmt.Fprintf(w, format+"\n", args...)
	}
}

// warnRecovery describes what the recovery will do, and what may be lost.
func warnRecovery(r roles.Recovery) string {
	var w warning
	survivor := r.LastEntry > 0
	w.say(r.Rehearsal, "REHEARSAL: this folder becomes a separate group, %s, with one master, %s. It must be a copy: "+
		"its old group can no longer use it.", r.Group, r.Member)
	w.say(r.Rehearsal, "The copied group was not contacted, and none of its masters and workers is in the new table.")
	w.say(!r.Rehearsal, "WARNING: master %s becomes the only master of group %s, which continues as epoch %d.",
		r.Member, r.Group, r.Epoch)
	w.say(survivor, "Its log ends in term %d, at entry %d. If another survivor's ends in a higher term, or in the "+
		"same at a higher entry, recover that one.", r.LastTerm, r.LastEntry)
	w.say(r.Stale, "This folder was refused because it is an older copy: what its master acknowledged after the copy "+
		"was made is not in it. Recover another survivor, or the newer folder, if there is one.")
	for _, d := range r.Damaged {
		w.say(d.Segment, "A part of the log, %s, cannot be read and is moved to %s. The snapshot has its entries, and "+
			"what is behind the snapshot was read: %s", d.Path, d.Aside, d.Reason)
		w.say(!d.Segment, "Snapshot %s cannot be read and is moved to %s: %s", d.Path, d.Aside, d.Reason)
		w.say(d.Lost > 0, "With it this folder loses what it had of the log's entries %d to %d.", r.LastEntry+1, d.Lost)
	}
	w.say(r.Forked, "The storage nodes have a different block %d than its log. Its log from there on was never "+
		"committed and is left out.", r.Fork)
	w.say(survivor, "It knows %s mined and has %s in no mined block.", render.Count(r.Height, "block"),
		render.Count(r.Buffered, "record"))
	w.say(r.Source != "", "It adopts the chain of %s up to block %d.", r.Source, r.ChainHeight-1)
	w.say(r.Source != "" && r.Replicated < r.ChainHeight, "Fewer than %s are known to have its blocks from %d on: "+
		"keep that node until others have them.", render.Count(r.Replicas, "storage node"), r.Replicated)
	w.say(r.Undo > 0, "The recovery to epoch %d is UNDONE: records that its masters have acknowledged, and that are "+
		"not in this folder, are LOST.", r.Undo)
	for _, c := range r.Replaced {
		w.say(true, "Storage node %s has blocks %d to %d that are not this folder's: they are moved to its quarantine.",
			c.URL, c.From, c.To-1)
	}
	for _, url := range r.Others {
		w.say(true, "At %s a storage node answers that is not in the table. It confirms nothing, and blocks that "+
			"only the node in the table had are LOST.", url)
	}
	confirming := r.Asked - len(r.Others)
	w.say(2*confirming <= r.Storages && !r.Rehearsal && survivor, "%s of the table's %d do not answer: only YOU "+
		"confirm that no leader of the old group uses them.", render.Count(r.Storages-confirming, "storage node"),
		r.Storages)
	for _, url := range r.Foreign {
		w.say(true, "Storage node %s has blocks that the group did not commit: they will be replaced, and moved to "+
			"its quarantine.", url)
	}
	switch {
	case r.Rehearsal:
		w.say(true, "Its log has none of the old keys: the next leader creates a new log.")
	case survivor:
		w.addSurvivor(r)
	default:
		w.addFromStorage(r)
	}
	for _, lost := range r.Lost {
		w.say(true, "Master %s must never run again with its folder.", lost)
	}
	return w.String()
}

// addSurvivor adds what is lost if a master survived, and what happens to its log.
func (w *warning) addSurvivor(r roles.Recovery) {
	log := render.Plain(r.Origin)
	w.say(true, "Records that were acknowledged and are neither in this log nor in that chain are LOST, with their "+
		"idempotency keys.")
	w.say(true, "Records of this log that contradict the chain were never committed, and are dropped.")
	w.say(log != "" && r.NewLogKey, "The log %s ends: its keys are left out, and the next leader creates a new log. "+
		"Start the masters without --checkpoint-key, and with another --origin or none.", log)
	w.say(log != "" && !r.NewLogKey, "The log %s continues under its keys. If blocks that they have signed may be "+
		"gone, because a storage node is left out or was lost, they\nwould sign a second log: stop here then, and "+
		"use --new-log-key.", log)
	w.say(r.Level == 0 && len(r.Lost) > 0, "This folder is of protocol level 0: the other masters may be of a "+
		"version that does not stop when a worker reports a later epoch. A master that still runs keeps "+
		"acknowledging records, and these are LOST.")
}

// addFromStorage adds what is lost if no master survived.
func (w *warning) addFromStorage(r roles.Recovery) {
	w.say(r.Asked < r.Replicas, "Only %s named, and each block must be on %d: blocks of other nodes are ignored, and "+
		"those nodes are repaired from this chain.", render.Count(r.Asked, "storage node is", "storage nodes are"),
		r.Replicas)
	w.say(true, "Records that were acknowledged and are not in that chain are LOST, and so are all idempotency keys, "+
		"and names and tokens of projects.")
	w.say(true, "No signature on that chain was checked: the storage nodes are trusted.")
	w.say(true, "The log has no key: start the master with --checkpoint-key and its backup, or without it if blocks "+
		"that it has signed may be gone.")
}

// confirmRecovery prints the warning and asks for confirmation.
func confirmRecovery(cmd *cobra.Command, r roles.Recovery, yes bool) error {
	if yes {
		_, err := io.WriteString(cmd.ErrOrStderr(), warnRecovery(r))
		return err
	}
	answer, err := cli.Ask(cmd.InOrStdin(), cmd.ErrOrStderr(), warnRecovery(r)+"Type yes to go on: ")
	if err == nil && answer != "yes" {
		err = errNotConfirmed
	}
	return err
}

func recoveredText(r roles.Recovery) string {
	var b strings.Builder
	fmt.Fprintf(&b, "master %s is now group %s, epoch %d: %s adopted, %s and %s dropped\n", r.Member, r.Group, r.Epoch,
		render.Count(r.Adopted, "block"), render.Count(r.Dropped, "record"), render.Count(r.Keys, "idempotency key"))
	if r.Single > 0 {
		fmt.Fprintf(&b, "%s of these, more than a master may keep, are on fewer than %s: keep every node until they "+
			"are repaired.\n", render.Count(r.Single, "block"), render.Count(r.Replicas, "storage node"))
	}
	if r.Rehearsal {
		b.WriteString("This is a rehearsal. Start the master under the same cluster token, without --peers, " +
			"--join, --witness, --origin and --checkpoint-key.\n")
	} else {
		b.WriteString("Start it as before, and add other masters with 'chainstore master --join'.\n")
	}
	return b.String()
}
