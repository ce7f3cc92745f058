"""From verified samples and columns to groups with rewards (`redi_ray.schemas.GROUP`). The entry is `redi_ray.data.groups.make`.

Three passes, shared out as in `redi_ray.data.curate`: `scan` gives every sample its reward, `choose` decides over each problem's
samples, `write` fetches the texts of those that stay. Whole texts are never shuffled.
"""
