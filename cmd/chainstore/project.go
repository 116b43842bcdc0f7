package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/httpapi/wire"
)

// newProjectCommand is the parent of the commands on projects.
func newProjectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "project",
		Short: "Create projects and renew their tokens",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	connect := addConnection(cmd, asAdmin)
	cmd.AddCommand(newProjectCreateCommand(connect), newProjectTokenCommand(connect))
	return cmd
}

func newProjectTokenCommand(connect *connection) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "token NAME|ID",
		Short: "Give a project a new token in the place of its old ones",
		Long: `Give a project a new token and print it. From then on its old tokens open nothing. It takes the admin token. After a recovery of the
masters from a storage node this is how projects, which then have no token, are opened again.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one project: project token NAME|ID")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connect.open(0)
			if err != nil {
				return err
			}
			defer c.CloseIdle()
			renewed, err := c.RenewToken(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printCreated(cmd, renewed, asJSON)
		},
	}
	addJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}

// printCreated prints a project with its token.
func printCreated(cmd *cobra.Command, p wire.CreatedProject, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		return printJSON(out, p)
	}
	if _, err := fmt.Fprintf(out, "id     %d\nname   %s\ntoken  %s\n", p.ID, p.Name, p.Token); err != nil {
		return err
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), "The token is shown this once: keep it.")
	return err
}

func newProjectCreateCommand(connect *connection) *cobra.Command {
	var public, asJSON bool
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a project and print its token, which is shown this once",
		Long: `Create a project and print its id and its token. It takes the admin token.

The token is shown this once: keep it, with --json say:

  chainstore project create sensors --json | jq -r .token > sensors.token`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one project: project create NAME")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connect.open(0)
			if err != nil {
				return err
			}
			defer c.CloseIdle()
			created, err := c.CreateProject(cmd.Context(), wire.NewProject{Name: args[0], Public: public})
			if err != nil {
				return err
			}
			return printCreated(cmd, created, asJSON)
		},
	}
	cmd.Flags().BoolVar(&public, "public", false, "let everybody read the project's records")
	addJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}
