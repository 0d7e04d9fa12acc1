/*
 * The administrator of localcloud's PostgreSQL, like RDS's: members of rds_superuser create, change, grant and drop
 * ordinary roles without ADMIN OPTION.
 *
 * Such a statement runs as the bootstrap superuser, rdsadmin, so that its grants are recorded as rdsadmin's and no
 * creator becomes a member of what it creates. Everything that would give the caller more than ordinary roles have
 * is left to PostgreSQL, which judges it by the caller's own rights:
 *
 *   - attributes SUPERUSER, REPLICATION and BYPASSRLS, and roles that have one of them,
 *   - PostgreSQL's predefined roles that the caller has no ADMIN OPTION on,
 *   - roles that are members of any of these, since a grant or a new password would pass the rights on,
 *   - changes of RDS's own roles,
 *   - GRANTED BY, and settings that a superuser sets only.
 *
 * And password hashes stay out of reach, though rds_superuser is in pg_read_all_data.
 *
 * It follows what role dumps and reports of real instances show; docs/unproven.md lists what is inferred.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_namespace.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/catcache.h"
#include "utils/guc_tables.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#if PG_VERSION_NUM < 160000
#error "before 16, CREATEROLE has the rights that this module gives"
#endif

PG_MODULE_MAGIC;

static const char ADMINISTRATORS[] = "rds_superuser";

/* Roles of RDS itself: they may be granted, but their attributes, names and existence are RDS's. */
static const char *const RDS_ROLES[] = { ADMINISTRATORS, "rds_iam", "rds_password", "rds_replication" };

static ProcessUtility_hook_type next_hook = NULL;
static ExecutorCheckPerms_hook_type next_check = NULL;

static bool
is_rds_role(const char *name)
{
	for (size_t i = 0; i < lengthof(RDS_ROLES); i++)
		if (strcmp(name, RDS_ROLES[i]) == 0)
			return true;
	return false;
}

/* Tell whether a role has rights that the caller has not, by its attributes or as a predefined role. */
static bool
is_mightier(Form_pg_authid role, Oid caller)
{
	if (role->rolsuper || role->rolreplication || role->rolbypassrls)
		return true;
	return role->oid < FirstNormalObjectId && !has_privs_of_role(caller, role->oid);
}

/* Tell whether a role is mightier than the caller, or a member of such a role, directly or not. */
static bool
leads_to_might(Oid role, Oid caller)
{
	List	   *reached = list_make1_oid(role);
	ListCell   *cell;

	foreach(cell, reached)		/* grows meanwhile */
	{
		HeapTuple	row = SearchSysCache1(AUTHOID, ObjectIdGetDatum(lfirst_oid(cell)));
		CatCList   *groups;
		bool		mightier;

		if (!HeapTupleIsValid(row))
			continue;
		mightier = is_mightier((Form_pg_authid) GETSTRUCT(row), caller);
		ReleaseSysCache(row);
		if (mightier)
			return true;
		groups = SearchSysCacheList1(AUTHMEMMEMROLE, ObjectIdGetDatum(lfirst_oid(cell)));
		for (int i = 0; i < groups->n_members; i++)
		{
			HeapTuple	membership = &groups->members[i]->tuple;

			reached = list_append_unique_oid(reached, ((Form_pg_auth_members) GETSTRUCT(membership))->roleid);
		}
		ReleaseSysCacheList(groups);
	}
	return false;
}

/* Tell whether the caller may pass a role on, as RDS's administrator may. A missing role is PostgreSQL's to report. */
static bool
may_pass_on(const char *name, Oid caller)
{
	Oid			role = get_role_oid(name, true);

	if (!OidIsValid(role))
		return false;
	if (role < FirstNormalObjectId && !is_admin_of_role(caller, role))
		return false;
	return !leads_to_might(role, caller);
}

/* Tell whether the caller may change or drop a role, as RDS's administrator may. */
static bool
may_change(const char *name, Oid caller)
{
	Oid			role = get_role_oid(name, true);

	return OidIsValid(role) && role >= FirstNormalObjectId && !is_rds_role(name) && !leads_to_might(role, caller);
}

/*
 * Replace CURRENT_USER and its like by the name that they have for the caller, since they would mean another role
 * while the statement runs. Return the name, or NULL for PUBLIC, which PostgreSQL refuses.
 */
static const char *
named(RoleSpec *spec)
{
	switch (spec->roletype)
	{
		case ROLESPEC_CSTRING:
			break;
		case ROLESPEC_CURRENT_ROLE:
		case ROLESPEC_CURRENT_USER:
			spec->rolename = GetUserNameFromId(GetUserId(), false);
			spec->roletype = ROLESPEC_CSTRING;
			break;
		case ROLESPEC_SESSION_USER:
			spec->rolename = GetUserNameFromId(GetSessionUserId(), false);
			spec->roletype = ROLESPEC_CSTRING;
			break;
		case ROLESPEC_PUBLIC:
			return NULL;
	}
	return spec->rolename;
}

/* Tell whether a role may get or lose a membership: any but the mighty, and the administrators' own group. */
static bool
may_be_member(RoleSpec *spec)
{
	const char *name = named(spec);
	Oid			role = name == NULL ? InvalidOid : get_role_oid(name, true);

	return OidIsValid(role) && role >= FirstNormalObjectId && !superuser_arg(role) && strcmp(name, ADMINISTRATORS) != 0;
}

static bool
may_be_members(List *specs)
{
	ListCell   *cell;

	foreach(cell, specs)
		if (!may_be_member(lfirst_node(RoleSpec, cell)))
			return false;
	return true;
}

static bool
may_pass_on_all(List *specs, Oid caller)
{
	ListCell   *cell;

	foreach(cell, specs)
	{
		const char *name = named(lfirst_node(RoleSpec, cell));

		if (name == NULL || !may_pass_on(name, caller))
			return false;
	}
	return true;
}

/* Tell whether the options of CREATE ROLE or ALTER ROLE are those of an ordinary role. */
static bool
are_ordinary(List *options, bool creating, Oid caller)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "superuser") == 0 || strcmp(option->defname, "isreplication") == 0 ||
			strcmp(option->defname, "bypassrls") == 0)
		{
			/* A new role lacks them anyway; to change them PostgreSQL asks for the attribute itself. */
			if (!creating || option->arg == NULL || boolVal(option->arg))
				return false;
		}
		else if (strcmp(option->defname, "addroleto") == 0)
		{
			if (!may_pass_on_all((List *) option->arg, caller))
				return false;
		}
		else if (strcmp(option->defname, "rolemembers") == 0 || strcmp(option->defname, "adminmembers") == 0)
		{
			if (!may_be_members((List *) option->arg))
				return false;
		}
	}
	return true;
}

/* Tell whether any user may set this setting, so that a superuser's ALTER ROLE gives nothing more. */
static bool
is_anybodys(VariableSetStmt *change)
{
	struct config_generic *setting;

	if (change->kind == VAR_RESET_ALL || change->name == NULL)
		return false;
	setting = find_option(change->name, false, true, 0);
	return setting != NULL && setting->context == PGC_USERSET && (setting->flags & GUC_CUSTOM_PLACEHOLDER) == 0;
}

static bool
may_grant(GrantRoleStmt *statement, Oid caller)
{
	ListCell   *cell;

	if (statement->grantor != NULL || !may_be_members(statement->grantee_roles))
		return false;
	foreach(cell, statement->granted_roles)
	{
		AccessPriv *granted = lfirst_node(AccessPriv, cell);

		if (granted->priv_name == NULL || !may_pass_on(granted->priv_name, caller))
			return false;
	}
	return true;
}

static bool
may_drop(DropRoleStmt *statement, Oid caller)
{
	ListCell   *cell;

	foreach(cell, statement->roles)
	{
		const char *name = named(lfirst_node(RoleSpec, cell));

		/* PostgreSQL refuses to drop the current user, which rdsadmin would be. */
		if (name == NULL || !may_change(name, caller) || get_role_oid(name, true) == caller)
			return false;
	}
	return true;
}

/* Tell whether RDS's rule covers a statement; names in it may be resolved on the way. */
static bool
is_covered(Node *statement, Oid caller)
{
	const char *name;

	switch (nodeTag(statement))
	{
		case T_CreateRoleStmt:
			return are_ordinary(castNode(CreateRoleStmt, statement)->options, true, caller);
		case T_AlterRoleStmt:
			{
				AlterRoleStmt *alter = castNode(AlterRoleStmt, statement);

				name = named(alter->role);
				return name != NULL && may_change(name, caller) && are_ordinary(alter->options, false, caller);
			}
		case T_AlterRoleSetStmt:
			{
				AlterRoleSetStmt *alter = castNode(AlterRoleSetStmt, statement);

				name = alter->role == NULL ? NULL : named(alter->role);
				return name != NULL && may_change(name, caller) && is_anybodys(alter->setstmt);
			}
		case T_DropRoleStmt:
			return may_drop(castNode(DropRoleStmt, statement), caller);
		case T_GrantRoleStmt:
			return may_grant(castNode(GrantRoleStmt, statement), caller);
		case T_RenameStmt:
			{
				RenameStmt *rename = castNode(RenameStmt, statement);

				return rename->renameType == OBJECT_ROLE && !is_rds_role(rename->newname) &&
					may_change(rename->subname, caller);
			}
		case T_CommentStmt:
			{
				CommentStmt *comment = castNode(CommentStmt, statement);

				return comment->objtype == OBJECT_ROLE && may_change(strVal(comment->object), caller);
			}
		default:
			return false;
	}
}

static bool
is_about_roles(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateRoleStmt:
		case T_AlterRoleStmt:
		case T_AlterRoleSetStmt:
		case T_DropRoleStmt:
		case T_GrantRoleStmt:
		case T_RenameStmt:
		case T_CommentStmt:
			return true;
		default:
			return false;
	}
}

/* Tell whether the current user is one of RDS's administrators; superusers need no rule. */
static bool
is_administrator(void)
{
	Oid			group;

	if (superuser() || InSecurityRestrictedOperation())
		return false;
	group = get_role_oid(ADMINISTRATORS, true);
	return OidIsValid(group) && has_privs_of_role(GetUserId(), group);
}

static void
run(PlannedStmt *plan, const char *text, bool read_only, ProcessUtilityContext context, ParamListInfo params,
	QueryEnvironment *environment, DestReceiver *receiver, QueryCompletion *completion)
{
	if (next_hook != NULL)
		next_hook(plan, text, read_only, context, params, environment, receiver, completion);
	else
		standard_ProcessUtility(plan, text, read_only, context, params, environment, receiver, completion);
}

static void
run_by_rule(PlannedStmt *plan, const char *text, bool read_only, ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *environment, DestReceiver *receiver, QueryCompletion *completion)
{
	PlannedStmt *resolved = plan;
	Oid			user;
	int			security;

	if (is_about_roles(plan->utilityStmt) && is_administrator())
	{
		/* A plan may be used again by another user, so names are resolved in a copy. */
		resolved = copyObject(plan);
		if (is_covered(resolved->utilityStmt, GetUserId()))
		{
			GetUserIdAndSecContext(&user, &security);
			/* Within such a change PostgreSQL lets nobody set a role's `role`, which users of ALTER ROLE may. */
			if (nodeTag(resolved->utilityStmt) == T_AlterRoleSetStmt)
				SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security);
			else
				SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security | SECURITY_LOCAL_USERID_CHANGE);
			PG_TRY();
			{
				run(resolved, text, read_only, context, params, environment, receiver, completion);
			}
			PG_FINALLY();
			{
				SetUserIdAndSecContext(user, security);
			}
			PG_END_TRY();
			return;
		}
	}
	run(plan, text, read_only, context, params, environment, receiver, completion);
}

/* Tell whether a query reads the table of password hashes, or its view, by pg_read_all_data. */
static bool
reads_hashes(RTEPermissionInfo *access)
{
	Oid			user = OidIsValid(access->checkAsUser) ? access->checkAsUser : GetUserId();

	if ((access->requiredPerms & ACL_SELECT) == 0 || superuser_arg(user) ||
		!has_privs_of_role(user, ROLE_PG_READ_ALL_DATA))
		return false;
	return access->relid == AuthIdRelationId || access->relid == get_relname_relid("pg_shadow", PG_CATALOG_NAMESPACE);
}

static bool
check_reading(List *tables, List *accesses, bool report)
{
	ListCell   *cell;

	foreach(cell, accesses)
	{
		RTEPermissionInfo *access = lfirst_node(RTEPermissionInfo, cell);

		if (reads_hashes(access))
		{
			if (report)
				aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(get_rel_relkind(access->relid)),
							   get_rel_name(access->relid));
			return false;
		}
	}
	return next_check == NULL || next_check(tables, accesses, report);
}

void
_PG_init(void)
{
	next_check = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = check_reading;
	next_hook = ProcessUtility_hook;
	ProcessUtility_hook = run_by_rule;
}
