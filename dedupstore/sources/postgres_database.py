"""What belongs to a PostgreSQL database itself, which is in no dump of it: written down, and given to a new one.

How it sorts (its encoding and locale), who owns it, who may do what with it (`GRANT … ON DATABASE`), its settings and those that a
role has in it, the number of connections, and its comment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

QUERY = """SELECT json_build_object(
'encoding', pg_encoding_to_char(encoding), 'collate', datcollate, 'ctype', datctype, 'owner', pg_get_userbyid(datdba),
'provider', coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), 'rules', to_jsonb(d) ->> 'daticurules',
'settings', (SELECT coalesce(json_agg(x ORDER BY x), '[]') FROM pg_db_role_setting s, unnest(s.setconfig) x
WHERE s.setdatabase = d.oid AND s.setrole = 0),
'role_settings', (SELECT coalesce(json_agg(json_build_array(r.rolname, x) ORDER BY r.rolname, x), '[]')
FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) x WHERE s.setdatabase = d.oid),
'grants', (SELECT json_agg(json_build_array(coalesce(r.rolname, ''), a.privilege_type, a.is_grantable)
ORDER BY r.rolname NULLS FIRST, a.privilege_type, a.is_grantable)
FROM aclexplode(datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee),
'connections', datconnlimit, 'comment', shobj_description(d.oid, 'pg_database'),
'roles', (SELECT coalesce(json_agg(DISTINCT r.rolname), '[]') FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
WHERE s.dbid = d.oid AND s.refclassid = 'pg_authid'::regclass))
FROM pg_database d WHERE datname = current_database();"""
"""One JSON object. `grants` is null while nobody has changed what everybody may do; '' is PUBLIC. What a server is too old to know is null."""

_PRIVILEGES = ("CONNECT", "CREATE", "TEMPORARY")
_HAS_PROVIDERS = 150_000
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def created_as(about: Mapping[str, Any], version: int) -> str:
    """What CREATE DATABASE says of encoding and locale; `version`: the new server's `server_version_num`."""
    if not about.get("encoding"):
        return ""
    texts = [literal(str(about[key])) for key in ("encoding", "collate", "ctype")]
    words = f" ENCODING {texts[0]} LC_COLLATE {texts[1]} LC_CTYPE {texts[2]}"
    provider = _PROVIDERS.get(about.get("provider", ""), "")
    # A server that knows no providers has libc only; asked for another it says so, and nothing sorts otherwise than it did.
    if provider and (version >= _HAS_PROVIDERS or provider != "libc"):
        words += f" LOCALE_PROVIDER {provider}"
        if provider != "libc" and about.get("locale"):
            words += f" {'ICU' if provider == 'icu' else 'BUILTIN'}_LOCALE {literal(str(about['locale']))}"
        if about.get("rules"):
            words += f" ICU_RULES {literal(str(about['rules']))}"
    return words


def without_roles(about: Mapping[str, Any]) -> dict[str, Any]:
    """The same with nothing of other roles than PUBLIC, whose rights to the database may be fewer than those to a new one."""
    grants = about.get("grants")
    own = grants if grants is None else [grant for grant in grants if not grant[0]]
    return {**about, "owner": "", "roles": [], "role_settings": [], "grants": own}


def given(about: Mapping[str, Any], name: str, roles: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Statements that give the database `name` what the recorded one had, each with what to call it; '' where a role is missing.

    In this order: the grants are given in the name of the owner. `roles`: those of the new server.
    """
    there, database = set(roles), quoted(name)
    for key, value in _settings(about.get("settings", ())):
        yield key, _set(f"DATABASE {database}", key, value)
    for role, setting in about.get("role_settings", ()):
        for key, value in _settings((setting,)):
            done = _set(f"ROLE {quoted(role)} IN DATABASE {database}", key, value) if role in there else ""
            yield f"{key} of {role}", done
    if isinstance(about.get("connections"), int) and about["connections"] >= 0:
        yield "connection limit", f"ALTER DATABASE {database} CONNECTION LIMIT {about['connections']};"
    if about.get("comment"):
        yield "comment", f"COMMENT ON DATABASE {database} IS {literal(str(about['comment']))};"
    if owner := about.get("owner", ""):
        yield "owner", f"ALTER DATABASE {database} OWNER TO {quoted(owner)};" if owner in there else ""
    if about.get("grants") is not None:
        yield from _grants(about["grants"], database, owner, there)


def _grants(
    grants: Iterable[tuple[str, str, bool]], database: str, owner: str, there: set[str]
) -> Iterator[tuple[str, str]]:
    before = ["PUBLIC", *([quoted(owner)] if owner in there else ())]
    # First what was taken away: that everybody may connect is what a new database begins with.
    yield "rights of PUBLIC", f"REVOKE ALL ON DATABASE {database} FROM {', '.join(before)};"
    for role, privilege, grantable in grants:
        if privilege not in _PRIVILEGES or (role == owner and owner not in there):
            continue
        what = f"{privilege} to {role or 'PUBLIC'}"
        if role and role not in there:
            yield what, ""
            continue
        option = " WITH GRANT OPTION" if grantable else ""
        yield what, f"GRANT {privilege} ON DATABASE {database} TO {quoted(role) if role else 'PUBLIC'}{option};"


def _settings(settings: Iterable[str]) -> Iterator[tuple[str, str]]:
    for setting in settings:
        key, _, value = setting.partition("=")
        yield key, value


def _set(whose: str, key: str, value: str) -> str:
    """By way of the session: lists, such as a search path, are then not taken for one word."""
    words = ".".join(map(quoted, key.split(".")))
    return f"SELECT set_config({literal(key)}, {literal(value)}, false);ALTER {whose} SET {words} FROM CURRENT;"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    escaped = text.replace("'", "''")
    # Where `standard_conforming_strings` is off a backslash would hide the end of the text.
    return f"'{escaped}'" if "\\" not in text else " E'" + escaped.replace("\\", "\\\\") + "'"
