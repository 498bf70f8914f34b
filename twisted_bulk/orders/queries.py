"""The parameters of the API's queries, as types. Pure.

A value is as it came; an empty one holds for every batch, or member. Whoever uses it checks it.
"""

import msgspec


class BatchFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Batches that meet all conditions that are given.

    :param status: states, with commas between them
    :param id: how the id begins
    :param owner: name of a token
    :param code: of a failed member, or of a part that failed
    :param since: created then or later: seconds since 1970, or as ISO 8601 has it
    :param before: created before then
    :param callback: ``undelivered``: its last callback was given up; ``waiting``: it could not be
        delivered yet
    """

    status: str = ""
    id: str = ""
    owner: str = ""
    code: str = ""
    since: str = ""
    before: str = ""
    callback: str = ""


class MembersQuery(msgspec.Struct, frozen=True):
    """Members of a batch that meet all conditions that are given, and which page of them.

    :param host: of the URL as shown
    :param text: stands in the URL as shown, the name, the code or the detail
    :param part: the number of one part
    :param count: ``true``: how many there are is asked
    :param full: ``true``: texts are not cut; then a page has one member
    """

    status: str = ""
    code: str = ""
    host: str = ""
    text: str = ""
    part: str = ""
    limit: str = "100"
    cursor: str = ""
    count: str = ""
    full: str = ""
