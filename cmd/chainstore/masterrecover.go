package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/roles"
)

// newMasterRecoverCommand replaces a lost majority.
func newMasterRecoverCommand() *cobra.Command {
	var cfg roles.RecoverConfig
	var clusterTokenFile string
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Replace a majority of masters that is lost for good",
		Long: `Replace a majority of masters that is lost for good. While a majority can come back, bring it back:
nothing is lost then.

With the data folder of a master that survived, and that is stopped, that master becomes the whole group. Where
several survived, take the one whose log ends in the highest term, of these the one with the highest entry: the
command shows both before it asks.

With --from-storage and an empty folder the group is founded anew from the storage nodes' chain. Name all of them:
blocks that only a node has that is not named are lost, and a node that is not named and has seen a higher epoch
refuses the new master.

A group that lives must not be replaced: two groups would acknowledge different records at one position. So the
command asks first, and changes nothing where it finds one. Each other master of the table must be stopped and named
with --dead; one that answers is not dead. A majority of the table's storage nodes must run, and none of them may have
had an order of a leader for a minute; the command waits for that. They store the new epoch before the folder is
changed, and refuse the old masters from then on. Where this is cut short, run it again. A storage node that an older
version ran meanwhile may not know who led last: the command then asks for --resume-recovery EPOCH.

Storage nodes that are gone, or that were replaced at their URL by one with an empty disk, are named with --without:
blocks that they alone have are lost. Where a majority of them is destroyed add --storage-majority-lost. Then nothing
but your word tells that the old group does not live with those that are out of reach.

Either way the highest chain of the storage nodes is taken over first, each block of it verified.

What the lost masters had acknowledged and is neither in the survivor's log nor in a block of a storage node is lost,
and so are idempotency keys that the survivor does not know. With --from-storage every record that is in no block of
those nodes is lost, and so are all keys and settings; projects come back private, named recovered-ID, and without
tokens: 'chainstore project token create' gives them new ones. The log has no key then: start the master with
--checkpoint-key and the file that 'chainstore log backup' wrote. No signature on that chain is checked, and that key
signs all of it: where the nodes were made from an export, check the file first with 'chainstore verify --file FILE
--key KEY'.

The log must not go on under its keys where blocks that it has signed may be gone: with a storage node that is left
out or not named, or whose disk is. They would sign another log in the place of the first, and whoever kept a
checkpoint of that has proof of it. Recover a survivor with --new-log-key then, and start a group from storage without
--checkpoint-key: the log gets a new key, and another name unless --origin says the old one. docs/masters.md tells
more.

--undo-recovery undoes a recovery that was a mistake, with the folder of a master of the group that it replaced. The
records of this folder stand; blocks that contradict them are moved to the storage nodes' quarantine, and what the
mistaken group acknowledged in them is lost.

--rehearsal makes a group of its own of a COPY of a folder, with a new id, no masters, no workers and a new log, under
a cluster token of its own. Nobody of the group that was copied is asked anything. --from-storage may name storage
nodes of the rehearsal, made with 'chainstore import --rehearsal'.

Afterwards start the master as before, and let others in with 'chainstore master --join'.`,
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
				return errors.New("name the folder of the master that survived, or an empty one, with --data")
			}
			if cfg.ClusterToken, err = readSecret(clusterTokenFile, envClusterToken); err != nil {
				return err
			}
			bar := render.NewByteBar(cmd.ErrOrStderr(), "adopt")
			bar.Unit = "blocks"
			cfg.Progress = func(done, total uint64) { bar.Set(int64(done), int64(total)) }
			waiting := render.NewByteBar(cmd.ErrOrStderr(), "wait until no leader has given an order for long enough")
			waiting.Unit = "s"
			said := false
			cfg.Waiting = func(w roles.Waiting) {
				if !said {
					said = true
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
			if asJSON {
				return render.JSON(cmd.OutOrStdout(), done)
			}
			return tellRecovered(cmd.OutOrStdout(), done)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Data, "data", "", "data `folder` of the master")
	flags.StringVar(&cfg.Raft, "raft", "127.0.0.1:8010", "`address` of its raft port from now on")
	addClusterToken(flags, &clusterTokenFile)
	flags.StringSliceVar(&cfg.FromStorage, "from-storage", nil,
		"`URLs` of all storage nodes, when no master has survived; of those of a rehearsal")
	flags.StringSliceVar(&cfg.Without, "without", nil,
		"ids or `URLs` of storage nodes that are gone: blocks that they alone have are lost")
	flags.BoolVar(&cfg.StorageLost, "storage-majority-lost", false, "go on although the storage nodes that are "+
		"not left out are no majority: the others are destroyed")
	flags.StringSliceVar(&cfg.Dead, "dead", nil,
		"ids or `URLs` of the other masters, all of them: they are stopped and never start again")
	flags.BoolVar(&cfg.UndoRecovery, "undo-recovery", false, "undo a recovery that was a mistake: the records of "+
		"this folder stand")
	flags.Uint64Var(&cfg.ResumeRecovery, "resume-recovery", 0, "the recovery to this `epoch` was cut short: no "+
		"master was ever started after it")
	flags.BoolVar(&cfg.Rehearsal, "rehearsal", false, "make a group of its own of a copy of a folder; nobody of "+
		"the group that was copied is asked")
	flags.BoolVar(&cfg.NewLogKey, "new-log-key", false,
		"leave out the log's name and keys: blocks that they have signed may be gone")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	addJSON(cmd, &asJSON, "print what was done as one JSON object")
	mustComplete(cmd.MarkFlagDirname("data"))
	return cmd
}

// waitingText says why a recovery waits.
func waitingText(w roles.Waiting) string {
	why := "was started lately and does not know of orders before"
	if w.Ordered {
		why = "had an order of a leader lately"
	}
	return fmt.Sprintf("Storage node %s %s. It must have been without one for %v: waiting.", w.Node, why, w.Need)
}

// errNotConfirmed: the person did not say yes.
var errNotConfirmed = errors.New("not confirmed: nothing was changed")

// warnRecovery says plainly what is about to be done, and what may be lost.
func warnRecovery(r roles.Recovery) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if r.Rehearsal {
		say("REHEARSAL: this folder becomes a group of its own, %s, with one master, %s. It must be a copy: it is "+
			"of no use to its group any more.", r.Group, r.Member)
		say("Nobody of the group that was copied was asked, and none of its masters and workers is in the new table.")
	} else {
		say("WARNING: master %s becomes the only master of group %s, which goes on as epoch %d.", r.Member, r.Group,
			r.Epoch)
	}
	survivor := r.LastEntry > 0
	if survivor {
		say("Its log ends in term %d, at entry %d. If another survivor's ends in a higher term, or in the same at a "+
			"higher entry, recover that one.", r.LastTerm, r.LastEntry)
	}
	if r.Stale {
		say("This folder was refused because it is an older copy: what its master acknowledged after the copy was " +
			"made " +
			"is not in it. Recover another survivor, or the newer folder, if there is one.")
	}
	for _, d := range r.Damaged {
		say("Snapshot %s cannot be read and is moved to %s: %s", d.Path, d.Aside, d.Reason)
		if d.Lost > 0 {
			say("With it all is gone that this folder knew of the log's entries %d to %d.", r.LastEntry+1, d.Lost)
		}
	}
	if r.Forked {
		say("The storage nodes have another block %d than its log, so what its log has from there on was never "+
			"committed: it is left out.", r.Fork)
	}
	if survivor {
		say("It knows %s mined and holds %s in no mined block.", render.Count(r.Height, "block"),
			render.Count(uint64(r.Buffered), "record"))
	}
	if r.Source != "" {
		say("It takes over the chain of %s up to block %d.", r.Source, r.ChainHeight-1)
		if r.Replicated < r.ChainHeight {
			say("Fewer than %s are known to have its blocks from %d on: keep that node until others have them.",
				render.Count(r.Replicas, "storage node"), r.Replicated)
		}
	}
	if r.Undo > 0 {
		say("The recovery to epoch %d is UNDONE: records that its masters have acknowledged, and that are not in "+
			"this folder, are LOST.", r.Undo)
	}
	for _, c := range r.Replaced {
		say("Storage node %s has blocks %d to %d that are not this folder's: they are moved to its quarantine.", c.URL,
			c.From, c.To-1)
	}
	for _, url := range r.Others {
		say("At %s answers another storage node than the table's: it vouches for nothing, and what the table's had "+
			"alone "+
			"is LOST.", url)
	}
	vouch := r.Asked - len(r.Others)
	if missing := r.Storages - vouch; 2*vouch <= r.Storages && !r.Rehearsal && survivor {
		say("%s of the table's %d do not answer: that no leader of the old group lives with them is YOUR word alone.",
			render.Count(missing, "storage node"), r.Storages)
	}
	for _, url := range r.Foreign {
		say("Storage node %s has other blocks than the group committed: they will be replaced, the old ones kept in "+
			"its quarantine.", url)
	}
	switch {
	case r.Rehearsal:
	case survivor:
		say("Records that were acknowledged and are neither in this log nor in that chain are LOST, with their " +
			"idempotency keys. Records of this log that")
		say("the chain has others in place of were never committed, and are dropped.")
	default:
		if r.Asked < r.Replicas {
			say("Only %s named, and each block is to be on %d: what others have is not looked at, and these are "+
				"filled from it.", render.CountAs(uint64(r.Asked), "storage node is", "storage nodes are"), r.Replicas)
		}
		say("Records that were acknowledged and are not in that chain are LOST, and so are all idempotency keys, " +
			"and names and tokens of projects.")
	}
	switch {
	case r.Rehearsal:
		say("Its log has no key of the old one: the next leader founds another.")
	case survivor && r.Origin != "" && r.NewLogKey:
		say("The log %s ends: its keys are left out, and the next leader founds another. Start the masters without "+
			"--checkpoint-key, and with another --origin or none.", render.Plain(r.Origin))
	case survivor && r.Origin != "":
		say("The log %s goes on under its keys. Where blocks that they have signed may be gone, with a storage node "+
			"that is left out or was lost, they would", render.Plain(r.Origin))
		say("sign a second log: stop here then, and say --new-log-key.")
	case !survivor:
		say("No signature on that chain was checked: the storage nodes are believed.")
		say("The log has no key: start the master with --checkpoint-key and its backup, or without where blocks " +
			"that it has signed may be gone.")
	}
	if r.Level == 0 && survivor && len(r.Lost) > 0 && !r.Rehearsal {
		say("This folder is of protocol level 0: the other masters may be of a version that does not stop when a " +
			"worker " +
			"tells it of a later epoch. One that still runs goes on acknowledging records, and these are LOST.")
	}
	for _, lost := range r.Lost {
		say("Master %s must never run again with its folder.", lost)
	}
	return b.String()
}

// confirmRecovery warns, and asks.
func confirmRecovery(cmd *cobra.Command, r roles.Recovery, yes bool) error {
	if yes {
		_, err := io.WriteString(cmd.ErrOrStderr(), warnRecovery(r))
		return err
	}
	answer, err := ask(cmd.InOrStdin(), cmd.ErrOrStderr(), warnRecovery(r)+"Type yes to go on: ")
	if err == nil && answer != "yes" {
		err = errNotConfirmed
	}
	return err
}

func tellRecovered(w io.Writer, r roles.Recovery) error {
	var b strings.Builder
	fmt.Fprintf(&b, "master %s is group %s now, epoch %d: %s adopted, %s and %s dropped\n", r.Member, r.Group, r.Epoch,
		render.Count(r.Adopted, "block"), render.Count(r.Dropped, "record"), render.Count(r.Keys, "idempotency key"))
	if r.Single > 0 {
		fmt.Fprintf(&b, "%s of these, more than a master may hold, are on fewer than %s: keep every node until they "+
			"are repaired.\n", render.Count(r.Single, "block"), render.Count(r.Replicas, "storage node"))
	}
	if r.Rehearsal {
		b.WriteString("This is a rehearsal. Start the master under the same cluster token, without --peers, " +
			"--join, --witness, --origin and --checkpoint-key.\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	b.WriteString("Start it as before, and let others in with 'chainstore master --join'.\n")
	_, err := io.WriteString(w, b.String())
	return err
}
